"""From what a worker answered to what `execute` returns: one table (design §10)."""

from typing import Any

import msgspec

from turnstream.client.tickets import Applied
from turnstream.codec.replies import decode_flag, decode_progress, decode_removed
from turnstream.domain.commands import Command, DeleteSession, ParkedCommands, RemoveMessages
from turnstream.domain.models import Session, session_of
from turnstream.errors import SessionGone, SessionNotFound, Unavailable
from turnstream.ports import MessageRange, SessionReader


class CommandResult(msgspec.Struct, frozen=True):
    """The spec's result of a dispatched command: `data` when it succeeded, else `error`, the rejection's message."""

    success: bool
    data: Any = None
    error: str | None = None


async def result_of(reader: SessionReader, command: Command[Any], command_id: str, applied: Applied) -> Any:  # noqa: ANN401
    """Return the result of an applied command: what it gave back, or the session as stored now.

    Raises:
        SessionGone: the session was deleted since, and perhaps created again.
        Unavailable: the session could not be read.

    """
    if isinstance(command, DeleteSession):
        return decode_flag(applied.output)
    if isinstance(command, RemoveMessages):
        return decode_removed(applied.output)
    if isinstance(command, ParkedCommands):
        return decode_progress(applied.output)
    return await _session(reader, command_id, applied)


async def _session(reader: SessionReader, command_id: str, applied: Applied) -> Session:
    try:
        header, messages = await reader.messages(applied.session_id, MessageRange())
    except SessionNotFound:
        raise SessionGone(applied.session_id, applied.version, command_id) from None
    except Unavailable as error:
        reason = f"Command {command_id} was applied; only the read of its result failed: {error}"
        raise Unavailable(reason, command_id) from error
    if header.version < applied.version:
        raise SessionGone(applied.session_id, applied.version, command_id)
    return session_of(header, messages)
