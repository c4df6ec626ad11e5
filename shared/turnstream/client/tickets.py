"""Tickets: what a producer holds of a command that is queued (design §10)."""

import asyncio
from collections.abc import Generator

import msgspec

from turnstream.client.addressing import Addressed
from turnstream.client.deadline import Deadline
from turnstream.client.diagnosis import Diagnosis
from turnstream.client.home import Home
from turnstream.codec.replies import error_of
from turnstream.domain.showing import show
from turnstream.errors import CommandParked, CommandTimeout, TurnstreamError
from turnstream.ports import Reply, SessionPlace

Answer = Reply | TurnstreamError

LOOK = 1.0
"""Seconds before the end of a ticket's time at which it is looked for the reason why no answer comes."""


class Applied(msgspec.Struct, frozen=True):
    """What a ticket gives: the session and its version behind the command; `output` is what else it gave, as JSON.

    `place` is where the command stands in the session's history, if it asked for that and was applied just now.
    """

    session_id: str
    version: int
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    place: SessionPlace | None = None

    def __repr__(self) -> str:
        """Show what it is, without content."""
        return show(self)


class Expected(msgspec.Struct):
    """An answer that will come; several may wait for it, and who gives up disturbs none of the others.

    A future that is waited for with a time-out would tell of it two turns of the event loop later.
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
        self, addressed: Addressed, expected: Expected, timeout: float, diagnosis: Diagnosis, home: Home
    ) -> None:
        """Hold a command whose answer will come at `home`, and what tells why it does not."""
        self.command_id = addressed.entry.command_id
        self.session_id = addressed.session_id
        self._partition = addressed.partition
        self._expected = expected
        self._timeout = timeout
        self._diagnosis = diagnosis
        self._home = home

    def __await__(self) -> Generator[object, None, Applied]:
        """Wait until the command is applied, for as long as it was sent with.

        Raises:
            Rejected: it was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            CommandTimeout: no answer came in time.
            Unavailable: the client was closed, or it had no connection for so long that it could not ask again.
            OpenedElsewhere: the answer is not there yet, and this is not the event loop of its client.

        """
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> Applied:
        """Wait until the command is applied; raises what awaiting the ticket does.

        Args:
            timeout: seconds to wait; by default those that it was sent with.

        """
        return await self.applied(Deadline.after(self._timeout if timeout is None else timeout))

    def __repr__(self) -> str:
        """Show which command it is, never its content."""
        done = self._expected.answer is not None
        return f"Ticket(command_id={self.command_id!r}, session_id={self.session_id!r}, {done=})"

    async def applied(self, deadline: Deadline) -> Applied:
        """Wait until the command is applied, or a deadline."""
        if self._expected.answer is None:
            self._home.check()
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
        answer = await self._expected.within(left - min(LOOK, left / 2))
        if answer is None:
            self._diagnosis.begin(self._partition)
            answer = await self._expected.within(deadline.left)
        if answer is None:
            raise CommandTimeout(self.command_id, deadline.passed, self._diagnosis.reason(self._partition))
        return answer


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
