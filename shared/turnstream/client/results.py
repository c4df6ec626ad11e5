"""From what a worker answered to what `execute` returns: one table (design §10)."""

import asyncio
from typing import Any, cast

import msgspec

from turnstream.client.deadline import Deadline
from turnstream.client.recent import Kept, RecentSessions
from turnstream.client.tickets import Applied
from turnstream.codec.commands import decode_command
from turnstream.codec.replies import decode_flag, decode_progress, decode_removed
from turnstream.domain.commands import AddMessage, AddMessages, Command, DeleteSession, ParkedCommands, RemoveMessages
from turnstream.domain.models import ChatMessage, SessionHeader, session_of
from turnstream.domain.showing import show
from turnstream.errors import SessionGone, SessionNotFound, Unavailable
from turnstream.ports import CommandEntry, MessageRange, SessionReader


class CommandResult(msgspec.Struct, frozen=True):
    """The spec's result of a dispatched command: `data` when it succeeded, else `error`, the rejection's message."""

    success: bool
    data: Any = None
    error: str | None = None

    def __repr__(self) -> str:
        """Show what it is, without content."""
        return show(self)


class Results:
    """Gives the results of one client's commands."""

    def __init__(self, reader: SessionReader) -> None:
        """Read sessions from the repository, but for those that the client's own results tell."""
        self._reader = reader
        self._recent = RecentSessions()

    async def of(self, command: Command[Any], sent: CommandEntry, applied: Applied, deadline: Deadline) -> Any:  # noqa: ANN401 - each command has a result of its own
        """Return the result of an applied command: what it gave back, or the session as stored now.

        Raises:
            SessionGone: the session was deleted since, or the command taken back by a failover.
            Unavailable: the session could not be read, or not before the deadline.

        """
        if isinstance(command, DeleteSession):
            return decode_flag(applied.output)
        if isinstance(command, RemoveMessages):
            return decode_removed(applied.output)
        if isinstance(command, ParkedCommands):
            return decode_progress(applied.output)
        kept = self._appended(sent, applied)
        if kept is None:
            header, messages = await self._read(sent.command_id, applied, deadline)
            place = applied.place if header.version == applied.version else None
            kept = Kept.of(header, messages, place) if place else None
            if kept is None:
                return session_of(header, messages)
        self._recent.keep(kept)
        return kept.session()

    def _appended(self, sent: CommandEntry, applied: Applied) -> Kept | None:
        """Return the session behind a command that did nothing but append, as far as it is known without a read."""
        kept = self._recent.take(applied.session_id)
        if kept is None or applied.place is None or sent.type not in {AddMessage.type, AddMessages.type}:
            return None
        # What was sent, and not what the caller holds: that may have been changed since.
        command = decode_command(sent.type, sent.data, len(sent.data))
        added = (command.message,) if isinstance(command, AddMessage) else cast("AddMessages", command).messages
        return kept.followed_by(added, applied.version, applied.place)

    async def _read(
        self, command_id: str, applied: Applied, deadline: Deadline
    ) -> tuple[SessionHeader, tuple[ChatMessage, ...]]:
        try:
            async with asyncio.timeout_at(deadline.at):
                header, messages = await self._reader.messages(applied.session_id, MessageRange())
        except TimeoutError:
            reason = f"Command {command_id} was applied; only its result could not be read within {deadline.passed:g} s"
            raise Unavailable(reason, command_id) from None
        except SessionNotFound:
            raise SessionGone(applied.session_id, applied.version, command_id) from None
        except Unavailable as error:
            reason = f"Command {command_id} was applied; only the read of its result failed: {error}"
            raise Unavailable(reason, command_id) from error
        if header.version < applied.version:
            raise SessionGone(applied.session_id, applied.version, command_id)
        return header, messages


def gives_session(command: Command[Any]) -> bool:
    """Tell whether the result of a command is its session."""
    return not isinstance(command, (DeleteSession, RemoveMessages, ParkedCommands))
