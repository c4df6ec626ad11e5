"""Tickets for queued commands."""

from collections.abc import Generator

import msgspec

from turnstream.client.guard import LoopGuard
from turnstream.client.replies.pending_commands import AwaitedReply
from turnstream.client.sending.requests import Deadline
from turnstream.domain.representation import show


class Applied(msgspec.Struct, frozen=True):
    """The result of a ticket: the session and its version after the command; `output` is any other result, as JSON."""

    session_id: str
    version: int
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        """Show what it is, without content."""
        return show(self)


class Ticket:
    """A queued command; await it, again and again if need be, to learn that it was applied."""

    def __init__(self, reply: AwaitedReply, timeout: float, home: LoopGuard) -> None:
        """Keep the reply to a command, which comes in the event loop of `home`."""
        self.command_id = reply.addressed.entry.command_id
        self.session_id = reply.addressed.session_id
        self._reply = reply
        self._timeout = timeout
        self._home = home

    def __await__(self) -> Generator[object, None, Applied]:
        """Wait until the command is applied, for as long as it was sent with; raises what `result` does."""
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> Applied:
        """Wait until the command is applied.

        Args:
            timeout: seconds to wait; by default those that it was sent with.

        Raises:
            Rejected: it was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            CommandTimeout: there was no reply in time.
            Unavailable: the client was closed, or it had no connection for so long that it could not ask again.
            OpenedElsewhere: the reply is not there yet, and this is not the event loop of its client.

        """
        if not self._reply.is_there:
            self._home.check()
        reply = await self._reply.before(Deadline.after(self._timeout if timeout is None else timeout))
        return Applied(self.session_id, reply.version, reply.output)

    def __repr__(self) -> str:
        """Show which command it is, never its content."""
        done = self._reply.is_there
        return f"Ticket(command_id={self.command_id!r}, session_id={self.session_id!r}, {done=})"
