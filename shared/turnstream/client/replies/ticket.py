"""Tickets for queued commands, with the deadline of a call."""

import asyncio
import math
from collections.abc import Generator
from typing import cast

import msgspec

from turnstream.client.guard import LoopGuard
from turnstream.client.replies.diagnosis import Diagnosis
from turnstream.client.replies.pending_commands import Answer, PendingReply
from turnstream.client.sending.requests import AddressedCommand
from turnstream.codec.records import error_of
from turnstream.domain.representation import show
from turnstream.errors import CommandParked, CommandTimeout, InvalidCommand, TurnstreamError
from turnstream.ports import Reply


class Deadline(msgspec.Struct, frozen=True, gc=False):
    """When a call began and when it is to end, in seconds of the event loop's clock."""

    began: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Begin now.

        Raises:
            InvalidCommand: that is no number of seconds.

        """
        # A caller may have given anything.
        if not isinstance(cast("object", seconds), (int, float)) or math.isnan(seconds):
            raise InvalidCommand("timeout", "Expected a number of seconds")
        now = asyncio.get_running_loop().time()
        return cls(now, now + seconds)

    @property
    def left(self) -> float:
        """The seconds that are left, 0 when it is over."""
        return max(0.0, self.at - asyncio.get_running_loop().time())

    @property
    def passed(self) -> float:
        """The seconds that have passed, rounded for the text of an error."""
        return float(f"{asyncio.get_running_loop().time() - self.began:.3g}")


DIAGNOSIS_LEAD_S = 1.0
"""Seconds before the end of a ticket's time at which it is looked for the reason why no answer comes."""


class Applied(msgspec.Struct, frozen=True):
    """The result of a ticket: the session and its version after the command; `output` is any other result, as JSON."""

    session_id: str
    version: int
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        """Show what it is, without content."""
        return show(self)


class AwaitedReply:
    """The reply to a queued command, with the diagnosis if it does not come."""

    def __init__(self, addressed: AddressedCommand, pending: PendingReply, diagnosis: Diagnosis) -> None:
        """Wait for the reply to a command."""
        self.addressed = addressed
        self._pending = pending
        self._diagnosis = diagnosis

    @property
    def is_there(self) -> bool:
        """Whether it has come."""
        return self._pending.answer is not None

    async def before(self, deadline: Deadline) -> Reply:
        """Wait for the reply that the command was applied, in the event loop of its client.

        Raises:
            Rejected: the command was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            CommandTimeout: there was no reply before the deadline.
            Unavailable: the client was closed, or it had no connection for so long that it could not ask again.

        """
        answer = self._pending.answer or await self._answer(deadline)
        if isinstance(answer, TurnstreamError):
            raise answer
        if answer.error:
            raise error_of(answer.error)
        if answer.status == "parked":
            raise CommandParked(self.addressed.session_id, self.addressed.entry.command_id)
        return answer

    async def _answer(self, deadline: Deadline) -> Answer:
        """Wait for the answer; shortly before the deadline, begin to look for the reason why there is none."""
        partition, left = self.addressed.partition, deadline.left
        answer = await self._pending.within(left - min(DIAGNOSIS_LEAD_S, left / 2))
        if answer is None:
            self._diagnosis.begin(partition)
            answer = await self._pending.within(deadline.left)
        if answer is None:
            command_id = self.addressed.entry.command_id
            raise CommandTimeout(command_id, deadline.passed, self._diagnosis.reason(partition))
        return answer


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
