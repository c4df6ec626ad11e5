"""`ts.sessions`: reads of the stored sessions (docs/contract.md, Repository)."""

from collections.abc import AsyncIterator
from typing import Protocol

from turnstream.application.queries.session_list import walk
from turnstream.codec.envelope import check_session_id
from turnstream.codec.inspection import LONE_SURROGATE, is_unicode
from turnstream.domain.commands import Command, GetSession, ListSessions, Result
from turnstream.domain.models import ChatMessage, Session, SessionInfo, SessionPage, session_of
from turnstream.errors import InvalidCommand, SessionNotFound, StoredDataInvalid
from turnstream.ports import MessageRange, SessionReader


class Executes(Protocol):
    """Runs a command and returns its result."""

    async def execute(self, command: Command[Result]) -> Result:
        """Execute a command."""
        ...


class Sessions:
    """The stored sessions of a deployment, to read: commands write them.

    A read sees every command whose result or ticket was awaited before.
    """

    def __init__(self, client: Executes, reader: SessionReader, partitions: int) -> None:
        """Read from a store; `client` executes the queries that are commands of the contract."""
        self._client = client
        self._reader = reader
        self._partitions = partitions

    async def get(self, session_id: str, *, last: int | None = None) -> Session | None:
        """Return a session with its messages; `None` if there is no such session.

        Args:
            session_id: the session.
            last: only so many messages, from the end; the others are not read.

        Raises:
            InvalidCommand: this cannot be the id of a session, or `last` is not a count.
            StoredDataInvalid: the stored data of the session cannot be read; names the key.

        """
        if last is None:
            return await self._client.execute(GetSession(session_id))
        check_session_id(session_id)
        _check_count("last", last)
        try:
            return session_of(*await self._reader.messages(session_id, MessageRange(count=last, from_end=True)))
        except SessionNotFound:
            return None

    async def messages(
        self,
        session_id: str,
        *,
        last: int | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> tuple[ChatMessage, ...]:
        """Return messages of a session, oldest first; without arguments all of them.

        Args:
            session_id: the session.
            last: only so many messages, from the end of the range.
            before: the id of the message after the range, not included.
            after: the id of the message before the range, not included.
            limit: only so many messages of the range: those next to `before` if only that is given, otherwise those
                from its start.

        Raises:
            SessionNotFound: there is no such session.
            MessageNotFound: it has no message `before` or `after`.
            InvalidCommand: an id is invalid, `last` and `limit` are both given, or one of them is not a count.
            StoredDataInvalid: the stored data of the session cannot be read; names the key.

        """
        check_session_id(session_id)
        _check_bound("before", before)
        _check_bound("after", after)
        if last is not None and limit is not None:
            raise InvalidCommand("last", "Expected either `last` or `limit`")
        count = last if limit is None else limit
        _check_count("last" if limit is None else "limit", count)
        from_end = last is not None or (limit is not None and before is not None and after is None)
        _, messages = await self._reader.messages(session_id, MessageRange(after, before, count, from_end))
        return messages

    async def page(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        provider: str | None = None,
        model: str | None = None,
        is_active: bool | None = None,
    ) -> SessionPage:
        """Return a page of sessions, most recently updated first.

        A session that is updated between two pages moves to the front, so pages may skip it; `list` yields every
        session. `unreadable` holds the ids of sessions whose stored data cannot be read; they count for `limit`.

        Args:
            limit: sessions of the page, up to 1,000.
            cursor: the `next_cursor` of the page before.
            provider: only sessions of this provider.
            model: only sessions of this model.
            is_active: only active or only inactive sessions.

        Raises:
            InvalidCommand: one of the arguments is invalid.

        """
        return await self._client.execute(
            ListSessions(limit=limit, cursor=cursor, provider=provider, model=model, is_active=is_active)
        )

    def list(
        self, *, provider: str | None = None, model: str | None = None, is_active: bool | None = None
    ) -> AsyncIterator[SessionInfo]:
        """Yield all sessions, each once, the least recently updated first.

        Args:
            provider: only sessions of this provider.
            model: only sessions of this model.
            is_active: only active or only inactive sessions.

        Raises:
            StoredDataInvalid: after all others, if a session could not be read: the first such; each is logged.

        """
        wanted = ListSessions(provider=provider, model=model, is_active=is_active)
        return walk(self._reader, self._partitions, wanted)

    async def exists(self, session_id: str) -> bool:
        """Return whether there is such a session."""
        check_session_id(session_id)
        (info,) = await self._reader.infos([session_id])
        if isinstance(info, StoredDataInvalid):
            raise info
        return info is not None

    async def count(self) -> int:
        """Return how many sessions there are."""
        return await self._reader.count()


def _check_bound(name: str, message_id: object) -> None:
    if message_id is None:
        return
    if not isinstance(message_id, str):
        raise InvalidCommand(name, f"Expected the id of a message, got {type(message_id).__name__}")
    if not is_unicode(message_id):
        raise InvalidCommand(name, LONE_SURROGATE)


def _check_count(name: str, count: object) -> None:
    if count is None:
        return
    if not isinstance(count, int) or isinstance(count, bool):
        raise InvalidCommand(name, f"Expected a number, got {type(count).__name__}")
    if count < 0:
        raise InvalidCommand(name, f"Expected a number of at least 0, got {count}")
