"""The repository's methods of the spec (step 2): reads go to the store, writes execute the command of the same name."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from turnstream.application.answers import get_session
from turnstream.application.listing import page, walk
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
from turnstream.domain.models import ChatMessage, Session, SessionConfig, SessionInfo, SessionPage
from turnstream.domain.patches import ChatMessagePatch, SessionPatch
from turnstream.domain.rules import check_rules
from turnstream.errors import InvalidCommand
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

    async def get_session(self, session_id: str) -> Session | None:
        """Return a session whole, with all its messages; `None` if there is none."""
        return await get_session(self._reader, GetSession(session_id))

    async def create_session(
        self,
        config: SessionConfig,
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Session:
        """Create a session; raises `SessionAlreadyExists`."""
        return await self._client.execute(CreateSession(config, session_id, metadata))

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
        return await self._client.execute(UpdateMessage(session_id, message_id, updates))

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
            last: of the messages in the range, only so many at its end.
            before: the id of the message behind the range, itself not in it.
            after: the id of the message before the range, itself not in it.
            limit: of the messages in the range, only so many: those next to `before` where only that is given, else
                those at its start.

        Raises:
            SessionNotFound: there is no such session.
            MessageNotFound: it has no message `before` or `after`.
            InvalidCommand: `last` and `limit` exclude each other, and neither is negative.

        """
        if last is not None and limit is not None:
            raise InvalidCommand("last", "Expected either `last` or `limit`")
        count = last if limit is None else limit
        if count is not None and count < 0:
            raise InvalidCommand("last" if limit is None else "limit", f"Expected a number of at least 0, got {count}")
        from_end = last is not None or (limit is not None and before is not None and after is None)
        _, messages = await self._reader.messages(session_id, MessageRange(after, before, count, from_end))
        return messages

    async def list_sessions(
        self,
        limit: int = 100,
        cursor: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        is_active: bool | None = None,  # noqa: FBT001 - the name of the spec's field
    ) -> SessionPage:
        """Return a page of sessions, most recently updated first.

        What is updated while you page moves to the front, so pages may skip it; `iterate` sees every session.

        Args:
            limit: sessions of the page, up to 1,000.
            cursor: the `next_cursor` of the page before.
            provider: only sessions of this provider.
            model: only sessions of this model.
            is_active: only active or only inactive sessions.

        Raises:
            InvalidCommand: the limit or the cursor is none.

        """
        query = ListSessions(limit, cursor, provider, model, is_active)
        check_rules(query)
        return await page(self._reader, self._partitions, query)

    def iterate(self) -> AsyncIterator[SessionInfo]:
        """Walk over all sessions, each once, the one that was not updated for longest first."""
        return walk(self._reader, self._partitions)

    async def session_exists(self, session_id: str) -> bool:
        """Tell whether there is such a session."""
        return (await self._reader.infos([session_id]))[0] is not None

    async def count(self) -> int:
        """Return how many sessions there are."""
        return await self._reader.count()
