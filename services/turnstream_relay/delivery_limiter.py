"""The limits of attempts: a number at a time, a rate, and a circuit breaker."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from turnstream.backoff import Backoff
from turnstream.logging import get_logger
from turnstream_relay.response import Answer, Outcome

log = get_logger(__name__)

FAILURES: Final = 5
"""Failures in a row after which the circuit breaker opens."""

FIRST_PAUSE_S: Final = 1.0
"""The first pause; each that follows is twice as long."""

MAX_WAIT_S: Final = 1.0
"""Seconds to wait for a closed circuit breaker: the owner of a partition must be able to hand it over."""


def _nothing() -> None:
    """Do nothing."""


class CircuitOpen(Exception):  # noqa: N818 - a state of the gate
    """No attempt can be made now."""


class DeliveryLimiter:
    """The limits of one endpoint: concurrency, rate, and a circuit breaker.

    After some failures in a row the circuit breaker opens. Then one attempt at a time probes the endpoint; the first
    success closes it again. A retry of a failed session lets first attempts go first, and its failure does not count:
    otherwise sessions that the endpoint refuses would keep the breaker open for those that it accepts.
    """

    def __init__(
        self, concurrency: int, rate: float | None, max_backoff: float, opened: Callable[[], None] = _nothing
    ) -> None:
        """Permit `concurrency` attempts at a time, `rate` a second; an open breaker lasts up to `max_backoff` seconds.

        `opened` is called when the endpoint answers again after that.
        """
        self._opened = opened
        self._slots = asyncio.Semaphore(concurrency)
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0
        self._backoff = Backoff(min(FIRST_PAUSE_S, max_backoff), max_backoff)
        self._failures = 0
        self._paused_until: float | None = None
        self._trying = False
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def is_paused(self) -> bool:
        """Whether the endpoint is known to fail."""
        return self._paused_until is not None

    def close(self) -> None:
        """Permit no more attempts; those in flight continue."""
        self._closed = True
        self._ring()

    @asynccontextmanager
    async def permit(self, *, retries: bool = False) -> AsyncGenerator[Callable[[Answer], None]]:
        """Wait for the permission to make an attempt; gives a function that takes the answer to it.

        Args:
            retries: the event belongs to a session that is retried or parked.

        Raises:
            CircuitOpen: the limiter was closed, or the circuit breaker stays open for long.

        """
        self._check_pause(retries)
        async with self._slots:
            self._check_pause(retries)
            tries = await self._passed()
            try:
                yield partial(self._note, tries, retries)
            finally:
                if tries:
                    self._trying = False
                    self._ring()

    def _check_pause(self, retries: bool) -> None:  # noqa: FBT001 - given on by `permit`
        """Refuse retries while the breaker is open: first attempts go first, and retries take no slot to wait in."""
        if retries and self._paused_until is not None:
            is_over = asyncio.get_running_loop().time() >= self._paused_until + MAX_WAIT_S
            if self._trying or not is_over:
                raise CircuitOpen("the endpoint is paused")

    async def _passed(self) -> bool:
        """Wait for a permit; return whether the attempt probes an endpoint with an open breaker."""
        clock = asyncio.get_running_loop().time
        impatient = clock() + MAX_WAIT_S
        while not self._closed:
            now = clock()
            if self._paused_until is not None and (self._trying or now < self._paused_until):
                if now >= impatient:
                    raise CircuitOpen("the endpoint is paused")
                await self._pause(impatient if self._trying else min(impatient, self._paused_until))
            elif now < self._next:
                await self._pause(self._next)
            else:
                self._next = now + self._interval
                self._trying = self.is_paused
                return self._trying
        raise CircuitOpen("the relay stops")

    def _note(self, tries: bool, retries: bool, answer: Answer) -> None:  # noqa: FBT001 - bound by `permit`
        """Take the answer to an attempt; one that began before the pause only may ask for a longer one."""
        if retries and answer.outcome in (Outcome.FAILED, Outcome.REFUSED):
            return
        now = asyncio.get_running_loop().time()
        if self._paused_until is not None and not tries:
            self._paused_until = max(self._paused_until, now + (answer.wait or 0.0))
        elif answer.outcome is Outcome.DELIVERED:
            self._failures = 0
            self._open()
        else:
            self._failures += 1
            if tries or answer.outcome is Outcome.BUSY or self._failures >= FAILURES:
                self._pause_endpoint(answer, now)

    def _open(self) -> None:
        if self.is_paused:
            log.info("endpoint answers again")
            self._paused_until = None
            self._backoff.succeeded()
            self._ring()
            self._opened()

    def _pause_endpoint(self, answer: Answer, now: float) -> None:
        seconds = max(answer.wait or 0.0, self._backoff.failed())
        if not self.is_paused:
            log.warning("endpoint is paused", reason=answer.reason, seconds=round(seconds, 1))
        self._paused_until = now + seconds
        self._ring()

    async def _pause(self, until: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._changed.wait()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
