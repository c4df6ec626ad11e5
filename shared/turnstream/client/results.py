"""From what a worker answered to what `execute` returns: one table (design §10)."""

from typing import Any

import msgspec

from turnstream.client.tickets import Applied
from turnstream.codec.replies import decode_flag, decode_progress, decode_removed
from turnstream.domain.commands import Command, DeleteSession, ParkedCommands, RemoveMessages
from turnstream.domain.models import session_of
from turnstream.ports import MessageRange, SessionReader


class CommandResult(msgspec.Struct, frozen=True):
    """The spec's result of a dispatched command: `data` when it succeeded, else `error`, the rejection's message."""

    success: bool
    data: Any = None
    error: str | None = None


async def result_of(reader: SessionReader, command: Command[Any], applied: Applied) -> Any:  # noqa: ANN401
    """Return a command's result: what it gave back, or the session as stored now.

    Raises:
        SessionNotFound: the session was deleted since.

    """
    if isinstance(command, DeleteSession):
        return decode_flag(applied.output)
    if isinstance(command, RemoveMessages):
        return decode_removed(applied.output)
    if isinstance(command, ParkedCommands):
        return decode_progress(applied.output)
    return session_of(*await reader.messages(applied.session_id, MessageRange()))
