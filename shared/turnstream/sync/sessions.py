"""The repository's methods of the client without asyncio."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from turnstream.client.sessions import Sessions as AsyncSessions
from turnstream.domain.models import ChatMessage, Session, SessionConfig, SessionInfo, SessionPage
from turnstream.domain.patches import ChatMessagePatch, SessionPatch
from turnstream.sync.portal import Portal, Value

WALK_TOGETHER = 256
"""Sessions that `iterate` fetches from the event loop at a time."""


class Sessions:
    """The sessions of a deployment: reads go to what is stored, each write is the command of the same name."""

    def __init__(self, portal: Portal, sessions: AsyncSessions) -> None:
        """Hand calls over to the sessions of the client of asyncio."""
        self._portal = portal
        self._sessions = sessions

    def get_session(self, session_id: str, *, last: int | None = None) -> Session | None:
        """Return a session with all its messages, or with the `last` ones only; `None` if there is none."""
        return self._portal.call(self._sessions.get_session(session_id, last=last))

    def create_session(
        self,
        config: SessionConfig,
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Session:
        """Create a session; raises `SessionAlreadyExists`."""
        return self._portal.call(self._sessions.create_session(config, session_id, metadata))

    def update_session(self, session_id: str, updates: SessionPatch) -> Session:
        """Change what the patch sets; raises `SessionNotFound`."""
        return self._portal.call(self._sessions.update_session(session_id, updates))

    def delete_session(self, session_id: str) -> bool:
        """Delete a session; False if there is none."""
        return self._portal.call(self._sessions.delete_session(session_id))

    def add_message(self, session_id: str, message: ChatMessage) -> Session:
        """Append a message; raises `SessionNotFound` or `MessageAlreadyExists`."""
        return self._portal.call(self._sessions.add_message(session_id, message))

    def update_message(self, session_id: str, message_id: str, updates: ChatMessagePatch) -> Session:
        """Change fields of a message; raises `SessionNotFound` or `MessageNotFound`."""
        return self._portal.call(self._sessions.update_message(session_id, message_id, updates))

    def get_messages(
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
            self._sessions.get_messages(session_id, last=last, before=before, after=after, limit=limit),
        )

    def list_sessions(
        self,
        limit: int = 100,
        cursor: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        is_active: bool | None = None,  # noqa: FBT001 - the name of the contract's field
    ) -> SessionPage:
        """Return a page of sessions, most recently updated first; the arguments are those of the client of asyncio."""
        return self._portal.call(self._sessions.list_sessions(limit, cursor, provider, model, is_active))

    def iterate(self) -> Iterator[SessionInfo]:
        """Walk over all sessions, each once, the one that was not updated for longest first."""
        infos = self._sessions.iterate()
        while found := self._portal.call(some(infos)):
            yield from found

    def session_exists(self, session_id: str) -> bool:
        """Return whether there is such a session."""
        return self._portal.call(self._sessions.session_exists(session_id))

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
