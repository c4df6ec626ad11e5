"""From what a worker answered to what `execute` returns: one table (design §10)."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from turnstream.client.sending.requests import AddressedCommand, Deadline
from turnstream.client.session_cache import CachedSession, SessionCache
from turnstream.codec.envelope import decode_command
from turnstream.codec.records import decode_output
from turnstream.domain.command_specs import COMMAND_SPECS
from turnstream.domain.commands import Command
from turnstream.domain.models import ChatMessage, SessionHeader, session_of
from turnstream.domain.representation import show
from turnstream.errors import SessionGone, SessionNotFound, Unavailable
from turnstream.ports import MessageRange, Reply, SessionReader


class CommandResult(msgspec.Struct, frozen=True):
    """The result of a dispatched command: `data` when it succeeded, else `error`, the rejection's message."""

    success: bool
    data: Any = None
    error: str | None = None

    def __repr__(self) -> str:
        """Show what it is, without content."""
        return show(self)


class Results:
    """Gives the results of one client's commands."""

    def __init__(self, reader: SessionReader) -> None:
        """Read sessions from the repository, except those that the client knows from its own results."""
        self._reader = reader
        self._recent = SessionCache()

    async def of(self, command: Command[Any], sent: AddressedCommand, reply: Reply, deadline: Deadline) -> Any:  # noqa: ANN401 - each command has a result of its own
        """Return the result of an applied command: its output, or the session as it is stored now.

        Raises:
            SessionGone: the session was deleted since, or a failover rolled the command back.
            Unavailable: the session could not be read, or not before the deadline.

        """
        spec = COMMAND_SPECS[type(command)]
        if spec.output:
            return decode_output(reply.output, spec.output)
        kept = self._appended(sent, reply, spec.appends)
        if kept is None:
            header, messages = await self._read(sent, reply, deadline)
            position = reply.position if header.version == reply.version else None
            kept = CachedSession.of(header, messages, position) if position else None
            if kept is None:
                return session_of(header, messages)
        self._recent.keep(kept)
        return kept.session()

    def _appended(
        self, sent: AddressedCommand, reply: Reply, appends: Callable[[Any], tuple[ChatMessage, ...]] | None
    ) -> CachedSession | None:
        """Return the session after a command that only appended, if it is known without a read."""
        kept = self._recent.take(sent.session_id)
        if kept is None or reply.position is None or not appends:
            return None
        # The command as it was sent: the caller may have changed its own objects since.
        command = decode_command(sent.entry.type, sent.entry.data, len(sent.entry.data))
        return kept.followed_by(appends(command), reply.version, reply.position)

    async def _read(
        self, sent: AddressedCommand, reply: Reply, deadline: Deadline
    ) -> tuple[SessionHeader, tuple[ChatMessage, ...]]:
        command_id = sent.entry.command_id
        try:
            async with asyncio.timeout_at(deadline.at):
                header, messages = await self._reader.messages(sent.session_id, MessageRange())
        except TimeoutError:
            reason = f"Command {command_id} was applied; only its result could not be read within {deadline.passed:g} s"
            raise Unavailable(reason, command_id) from None
        except SessionNotFound:
            raise SessionGone(sent.session_id, reply.version, command_id) from None
        except Unavailable as error:
            reason = f"Command {command_id} was applied; only the read of its result failed: {error}"
            raise Unavailable(reason, command_id) from error
        if header.version < reply.version:
            raise SessionGone(sent.session_id, reply.version, command_id)
        return header, messages
