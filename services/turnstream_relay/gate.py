"""When an attempt may be made: so many at a time, so many a second, and none while the endpoint rests."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiolimiter import AsyncLimiter

from turnstream.backoff import Backoff
from turnstream.telemetry import get_logger
from turnstream_relay.answers import Answer, Outcome

log = get_logger(__name__)

FAILURES: Final = 5
"""Failures in a row behind which an endpoint rests."""

FIRST_REST: Final = 1.0
"""Seconds of the first rest; each that follows is twice as long."""


class Closed(Exception):  # noqa: N818 - a state of the gate
    """No attempt is made any more."""


class Gate:
    """One endpoint's: a limit of concurrency, a limit of rate, and a circuit breaker.

    Behind some failures in a row the endpoint rests. Then one attempt at a time tries whether it answers; the first
    that succeeds opens the gate for all again.
    """

    def __init__(self, concurrency: int, rate: float | None, longest_rest: float) -> None:
        """Let pass `concurrency` attempts at a time, `rate` a second; rests have up to `longest_rest` seconds."""
        self._slots = asyncio.Semaphore(concurrency)
        # Less than one a second is one in so many seconds.
        self._limiter = AsyncLimiter(max(1.0, rate), max(1.0, 1 / rate)) if rate else None
        self._backoff = Backoff(min(FIRST_REST, longest_rest), longest_rest)
        self._failures = 0
        self._resting_until: float | None = None
        self._trying = False
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def is_resting(self) -> bool:
        """Whether the endpoint is known to fail."""
        return self._resting_until is not None

    def close(self) -> None:
        """Let nobody pass any more; attempts in hand go on."""
        self._closed = True
        self._ring()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for a turn to make an attempt.

        Raises:
            Closed: there is none any more.

        """
        async with self._slots:
            tries = await self._opened()
            try:
                if self._limiter:
                    await self._limiter.acquire()
                yield
            finally:
                if tries:
                    self._trying = False
                    self._ring()

    def note(self, answer: Answer) -> None:
        """Take what came of an attempt."""
        if answer.outcome is Outcome.DELIVERED:
            self._succeeded()
        elif answer.wait is not None or answer.outcome is Outcome.BUSY:
            self._rest(answer, answer.wait)
        else:
            self._failures += 1
            # One that began before the rest tells nothing new.
            if self._trying or (self._failures >= FAILURES and not self.is_resting):
                self._rest(answer, None)

    async def _opened(self) -> bool:
        """Wait while the endpoint rests; tell whether this is the one attempt that tries it."""
        while not self._closed:
            if self._resting_until is None:
                return False
            left = self._resting_until - asyncio.get_running_loop().time()
            if left <= 0 and not self._trying:
                self._trying = True
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(None if self._trying else left):
                    await self._changed.wait()
        raise Closed

    def _succeeded(self) -> None:
        self._failures = 0
        if self.is_resting:
            log.info("endpoint answers again")
            self._resting_until = None
            self._backoff.succeeded()
            self._ring()

    def _rest(self, answer: Answer, seconds: float | None) -> None:
        rest = max(seconds or 0.0, self._backoff.failed())
        if not self.is_resting:
            log.warning("endpoint rests", reason=answer.reason, seconds=round(rest, 1))
        self._resting_until = asyncio.get_running_loop().time() + rest
        self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
