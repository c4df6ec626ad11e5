"""The repository (docs/contract.md, Repository): reads go to the store, writes execute the command of the same name."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from turnstream.application.queries.session_list import walk
from turnstream.codec.envelope import check_session_id
from turnstream.codec.inspection import LONE_SURROGATE, is_unicode
from turnstream.domain.commands import (
    AddMessage,
    Command,
    CreateSession,
    DeleteSession,
    GetSession,
    ListSessions,
    Result,
    UpdateMessage,
    UpdateSession,
)
from turnstream.domain.models import ChatMessage, Session, SessionConfig, SessionInfo, SessionPage, session_of
from turnstream.domain.patches import ChatMessagePatch, SessionPatch
from turnstream.errors import InvalidCommand, SessionNotFound, StoredDataInvalid
from turnstream.ports import MessageRange, SessionReader


class Executes(Protocol):
    """Runs a command and returns its result."""

    async def execute(self, command: Command[Result]) -> Result:
        """Execute a command."""
        ...


class Sessions:
    """The sessions of a deployment."""

    def __init__(self, client: Executes, reader: SessionReader, partitions: int) -> None:
        """Read from a store, write by commands."""
        self._client = client
        self._reader = reader
        self._partitions = partitions

    async def get_session(self, session_id: str, *, last: int | None = None) -> Session | None:
        """Return a session with all its messages; `None` if there is none.

        Args:
            session_id: the session's id.
            last: only so many messages, from the end; the others are not read.

        """
        if last is None:
            return await self._client.execute(GetSession(session_id))
        check_session_id(session_id)
        _check_count("last", last)
        try:
            return session_of(*await self._reader.messages(session_id, MessageRange(count=last, from_end=True)))
        except SessionNotFound:
            return None

    async def create_session(
        self,
        config: SessionConfig,
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Session:
        """Create a session; raises `SessionAlreadyExists`."""
        return await self._client.execute(CreateSession(config, session_id, metadata=metadata))

    async def update_session(self, session_id: str, updates: SessionPatch) -> Session:
        """Change what the patch sets; raises `SessionNotFound`."""
        return await self._client.execute(UpdateSession(session_id, updates))

    async def delete_session(self, session_id: str) -> bool:
        """Delete a session; False if there is none."""
        return await self._client.execute(DeleteSession(session_id))

    async def add_message(self, session_id: str, message: ChatMessage) -> Session:
        """Append a message; raises `SessionNotFound` or `MessageAlreadyExists`."""
        return await self._client.execute(AddMessage(session_id, message))

    async def update_message(self, session_id: str, message_id: str, updates: ChatMessagePatch) -> Session:
        """Change fields of a message; raises `SessionNotFound` or `MessageNotFound`."""
        return await self._client.execute(UpdateMessage(session_id, message_id, updates=updates))

    async def get_messages(
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
            session_id: whose messages.
            last: only so many messages, from the end of the range.
            before: the id of the message after the range, not included.
            after: the id of the message before the range, itself not in it.
            limit: of the messages in the range, only so many: those next to `before` where only that is given, else
                those from its start.

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

    async def list_sessions(
        self,
        limit: int = 100,
        cursor: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        is_active: bool | None = None,  # noqa: FBT001 - the name of the contract's field
    ) -> SessionPage:
        """Return a page of sessions, most recently updated first.

        A session that is updated between two pages moves to the front, so pages may skip it; `iterate` sees every
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

    def iterate(self) -> AsyncIterator[SessionInfo]:
        """Walk over all sessions, each once, the one that was not updated for longest first.

        Raises:
            StoredDataInvalid: after all others, if a session could not be read: the first such; each is logged.

        """
        return walk(self._reader, self._partitions)

    async def session_exists(self, session_id: str) -> bool:
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
