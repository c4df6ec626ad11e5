"""Calling a subscriber's handler, and what comes of it (design §6)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple

from turnstream.backoff import Backoff
from turnstream.client.durable.retries import Fortune, Retries
from turnstream.client.listening.resync import ResyncRequired
from turnstream.domain.events import AnyEvent
from turnstream.errors import NotHandled
from turnstream.ports import Failure
from turnstream.telemetry import get_logger, where_of

log = get_logger(__name__)

Handler = Callable[[Any], Awaitable[None]]
"""Takes an event or a `ResyncRequired`; to return is to acknowledge, to raise is to have it come again."""

_ENDS = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""What ends more than a handler."""

_retried: ContextVar[bool] = ContextVar("turnstream_retried", default=False)


def is_retry() -> bool:
    """Tell whether the handler that is at work here was given an event of a session that is set aside."""
    return _retried.get()


class StoppedError(Exception):
    """The member stops before an event was handled."""


class Refusal(NamedTuple):
    """Why an event was not handled, whether that counts, and where in the handler it was raised."""

    reason: str
    counts: bool
    where: str


class Handling:
    """Calls the handler of a member; `fortune` is what came of that in all of its partitions."""

    def __init__(self, handler: Handler, retries: Retries) -> None:
        """Try events as often as `retries` says."""
        self.retries = retries
        self.fortune = Fortune()
        self._handler = handler

    async def attempt(self, event: AnyEvent | ResyncRequired, *, retry: bool = False) -> Refusal | None:
        """Have an event handled; return why it was not. `retry`: it is one of a session that is set aside."""
        error = await self._failure(event, retry=retry)
        if error is None:
            self.fortune.succeeded()
            return None
        counts = not isinstance(error, NotHandled) or error.counts
        return Refusal(_reason_of(error), counts, where_of(error))

    def failure(self, refusal: Refusal, attempts: int, doublings: int, *, is_parked: bool) -> Failure:
        """Return what follows from a failure that counts."""
        retry_in = self.retries.parked_pause() if is_parked else self.retries.pause(attempts)
        return Failure(refusal.reason, attempts, None, doublings, is_parked, retry_in)

    def tell_of_parking(self, failure: Failure, refusal: Refusal, session_id: str, partition: int) -> None:
        """Log that a session was parked; the next one is, where nothing succeeds meanwhile, tried twice as often."""
        self.fortune.gave_up(failure.doublings)
        about = {"session_id": session_id, "partition": partition, "attempts": failure.attempts}
        log.error("session parked, for an event was not handled", reason=refusal.reason, where=refusal.where, **about)

    async def attempt_until_handled(self, resync: ResyncRequired, stopped: asyncio.Event) -> None:
        """Have a loss handled, however often that takes.

        Raises:
            StoppedError: the member stops.

        """
        backoff = Backoff()
        while not stopped.is_set():
            refusal = await self.attempt(resync)
            if refusal is None:
                return
            if not backoff.failing:
                tell(refusal, resync)
            await wait(stopped, backoff.failed())
        raise StoppedError

    async def _failure(self, event: AnyEvent | ResyncRequired, *, retry: bool) -> BaseException | None:
        """Call the handler and return what it raised, also a cancellation of its own: that must not end this member.

        It gets a task of its own, for before Python 3.13 a task group that failed in it leaves its task counted as
        cancelled. Cancelling this one cancels that one, and counts even where the handler makes something else of it.
        """
        this = asyncio.current_task()
        before = this.cancelling() if this else 0
        error: BaseException | None = None
        try:
            await asyncio.create_task(self._call(event, retry=retry))
        except _ENDS:
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever it is, the event was not handled
            error = raised
        if this and this.cancelling() > before:
            raise asyncio.CancelledError from error
        return error

    async def _call(self, event: AnyEvent | ResyncRequired, *, retry: bool) -> None:
        _retried.set(retry)
        await self._handler(event)


def tell(refusal: Refusal, event: AnyEvent | ResyncRequired) -> None:
    """Log that an event was not handled; the handler knows of what does not count."""
    level = logging.WARNING if refusal.counts else logging.DEBUG
    about = {"type": event.type, "reason": refusal.reason, "where": refusal.where}
    log.log(level, "event not handled, it comes again", **about)


async def wait(stopped: asyncio.Event, seconds: float | None) -> None:
    """Let time pass, or wait without an end, until that is set."""
    with suppress(TimeoutError):
        # Before Python 3.12 `wait_for` loses a cancellation that meets the event.
        async with asyncio.timeout(seconds):
            await stopped.wait()


def _reason_of(error: BaseException) -> str:
    """Return what may be told of an error: the text of others may quote a message's content."""
    return error.reason if isinstance(error, NotHandled) else type(error).__name__
