"""Tickets for queued commands, with the deadline of a call and the commands that wait for a reply."""

import asyncio
import math
from collections.abc import Generator
from typing import cast

import msgspec

from turnstream.application.commands.decoder import payload_hash
from turnstream.client.guard import LoopGuard
from turnstream.client.replies.diagnosis import Diagnosis
from turnstream.client.sending.outbox import AddressedCommand
from turnstream.codec.records import error_of
from turnstream.domain.representation import show
from turnstream.errors import CommandParked, CommandTimeout, InvalidCommand, TurnstreamError
from turnstream.ports import Reply, SessionPlace


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


Answer = Reply | TurnstreamError

DIAGNOSIS_LEAD_S = 1.0
"""Seconds before the end of a ticket's time at which it is looked for the reason why no answer comes."""


class Applied(msgspec.Struct, frozen=True):
    """The result of a ticket: the session and its version after the command; `output` is any other result, as JSON.

    `place` is the position of the command in the session's history, if it was requested and the command applied now.
    """

    session_id: str
    version: int
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    place: SessionPlace | None = None

    def __repr__(self) -> str:
        """Show what it is, without content."""
        return show(self)


class Expected(msgspec.Struct):
    """A reply that is expected. Several callers may wait for it, and one that gives up does not disturb the others.

    A future with a time-out would wake its callers two turns of the event loop later.
    """

    answer: Answer | None = None
    waiting: list[asyncio.Future[None]] = []

    def settle(self, answer: Answer) -> None:
        """Give the answer to all who wait, unless they have one."""
        if self.answer is None:
            self.answer = answer
            for waiter in self.waiting:
                _wake(waiter)

    async def within(self, seconds: float) -> Answer | None:
        """Return the answer; `None` if it has not come in time."""
        if self.answer is None:
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            self.waiting.append(waiter)
            timer = loop.call_later(seconds, _wake, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self.waiting.remove(waiter)
        return self.answer


class Ticket:
    """A queued command; await it, again and again if need be, to learn that it was applied."""

    def __init__(
        self, addressed: AddressedCommand, expected: Expected, timeout: float, diagnosis: Diagnosis, home: LoopGuard
    ) -> None:
        """Keep a command whose reply comes in the event loop of `home`, and the diagnosis for a missing reply."""
        self.command_id = addressed.entry.command_id
        self.session_id = addressed.session_id
        self._partition = addressed.partition
        self._expected = expected
        self._timeout = timeout
        self._diagnosis = diagnosis
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
            CommandTimeout: no answer came in time.
            Unavailable: the client was closed, or it had no connection for so long that it could not ask again.
            OpenedElsewhere: the answer is not there yet, and this is not the event loop of its client.

        """
        if self._expected.answer is None:
            self._home.check()
        return await self.applied(Deadline.after(self._timeout if timeout is None else timeout))

    def __repr__(self) -> str:
        """Show which command it is, never its content."""
        done = self._expected.answer is not None
        return f"Ticket(command_id={self.command_id!r}, session_id={self.session_id!r}, {done=})"

    async def applied(self, deadline: Deadline) -> Applied:
        """Wait until the command is applied, or a deadline, in the event loop of its client."""
        answer = self._expected.answer or await self._answer(deadline)
        if isinstance(answer, TurnstreamError):
            raise answer
        if answer.error:
            raise error_of(answer.error)
        if answer.status == "parked":
            raise CommandParked(self.session_id, self.command_id)
        return Applied(self.session_id, answer.version, answer.output, answer.place)

    async def _answer(self, deadline: Deadline) -> Answer:
        """Wait for the answer; shortly before the deadline it is looked for the reason why there is none."""
        left = deadline.left
        answer = await self._expected.within(left - min(DIAGNOSIS_LEAD_S, left / 2))
        if answer is None:
            self._diagnosis.begin(self._partition)
            answer = await self._expected.within(deadline.left)
        if answer is None:
            raise CommandTimeout(self.command_id, deadline.passed, self._diagnosis.reason(self._partition))
        return answer


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class PendingCommand(msgspec.Struct):
    """A command that has no answer yet.

    `sent_at` is when it was first sent, in seconds of the event loop's clock, and `connection` the number of its
    partition's connection for replies at that time, or of the last one after which it was resent. `timeout` is the
    time-out of the call in seconds, `sends` the number of sends that have not failed, and `reminded_at` the time when
    it was resent because there was no reply, 0 if it was not.
    """

    expected: Expected
    command: AddressedCommand
    sent_at: float
    timeout: float
    connection: int
    queued: bool = False
    sends: int = 0
    reminded_at: float = 0.0

    def is_for(self, command: AddressedCommand) -> bool:
        """Return whether it is this command that is waited for."""
        own, other = self.command.entry, command.entry
        return own is other or (own.type, own.data) == (other.type, other.data)

    def is_meant_by(self, reply: Reply) -> bool:
        """Return whether a reply is for this command, and not for an earlier one with the same id chosen by the caller.

        A command that was sent twice is answered twice, and the second reply may come after the call has ended.
        """
        return not self.command.own_id or reply.payload_hash in {"", payload_hash(self.command.entry)}
