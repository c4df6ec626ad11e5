"""The stored sessions, without asyncio."""

from collections.abc import AsyncIterator, Iterator

from turnstream.client.sessions import Sessions as AsyncSessions
from turnstream.domain.models import ChatMessage, Session, SessionInfo, SessionPage
from turnstream.sync.portal import Portal, Value

WALK_TOGETHER = 256
"""Items that an iteration fetches from the event loop at a time."""


class Sessions:
    """The stored sessions of a deployment, to read: commands write them."""

    def __init__(self, portal: Portal, sessions: AsyncSessions) -> None:
        """Hand calls over to the sessions of the client of asyncio."""
        self._portal = portal
        self._sessions = sessions

    def get(self, session_id: str, *, last: int | None = None) -> Session | None:
        """Return a session with all its messages, or with the `last` ones only; `None` if there is none."""
        return self._portal.call(self._sessions.get(session_id, last=last))

    def messages(
        self,
        session_id: str,
        *,
        last: int | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> tuple[ChatMessage, ...]:
        """Return messages of a session, oldest first; the arguments are those of the client of asyncio."""
        return self._portal.call(
            self._sessions.messages(session_id, last=last, before=before, after=after, limit=limit),
        )

    def page(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        provider: str | None = None,
        model: str | None = None,
        is_active: bool | None = None,
    ) -> SessionPage:
        """Return a page of sessions, most recently updated first; the arguments are those of the client of asyncio."""
        return self._portal.call(
            self._sessions.page(limit, cursor, provider=provider, model=model, is_active=is_active)
        )

    def list(
        self, *, provider: str | None = None, model: str | None = None, is_active: bool | None = None
    ) -> Iterator[SessionInfo]:
        """Yield all sessions, each once, the least recently updated first."""
        infos = self._sessions.list(provider=provider, model=model, is_active=is_active)
        while found := self._portal.call(some(infos)):
            yield from found

    def exists(self, session_id: str) -> bool:
        """Return whether there is such a session."""
        return self._portal.call(self._sessions.exists(session_id))

    def count(self) -> int:
        """Return how many sessions there are."""
        return self._portal.call(self._sessions.count())


async def some(items: AsyncIterator[Value]) -> list[Value]:
    """Return the next items, none at the end."""
    found: list[Value] = []
    async for item in items:
        found.append(item)
        if len(found) == WALK_TOGETHER:
            break
    return found
