"""Tickets: what a producer holds of a command that is queued (design §10)."""

import asyncio
from collections.abc import Generator

import msgspec

from turnstream.client.home import Home
from turnstream.codec.replies import error_of
from turnstream.domain.showing import show
from turnstream.errors import CommandParked, CommandTimeout, TurnstreamError
from turnstream.ports import Reply, SessionPlace

Answer = Reply | TurnstreamError


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

    def __init__(self, command_id: str, session_id: str, expected: Expected, timeout: float, home: Home) -> None:
        """Hold a command whose answer will come, to who waits at home for so many seconds."""
        self.command_id = command_id
        self.session_id = session_id
        self._expected = expected
        self._timeout = timeout
        self._home = home

    def __await__(self) -> Generator[object, None, Applied]:
        """Wait until the command is applied.

        Raises:
            Rejected: it was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            CommandTimeout: no answer came in time.
            Unavailable: the client was closed, or it had no connection for so long that it could not ask again.
            OpenedElsewhere: the answer is not there yet, and this is not the event loop of its client.

        """
        return self._applied().__await__()

    def __repr__(self) -> str:
        """Show which command it is, never its content."""
        done = self._expected.answer is not None
        return f"Ticket(command_id={self.command_id!r}, session_id={self.session_id!r}, {done=})"

    async def _applied(self) -> Applied:
        if self._expected.answer is None:
            self._home.check()
        answer = await self._expected.within(self._timeout)
        if answer is None:
            raise CommandTimeout(self.command_id, self._timeout)
        if isinstance(answer, TurnstreamError):
            raise answer
        if answer.error:
            raise error_of(answer.error)
        if answer.status == "parked":
            raise CommandParked(self.session_id, self.command_id)
        return Applied(self.session_id, answer.version, answer.output, answer.place)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
