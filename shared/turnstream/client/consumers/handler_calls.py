"""Calls a subscriber's handler and classifies how it ended (design §6)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple

from turnstream.backoff import Backoff
from turnstream.client.consumers.retry_policy import OutageDetector, RetryPolicy
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.domain.events import AnyEvent
from turnstream.errors import NotHandled
from turnstream.logging import get_logger, where_of
from turnstream.ports import Failure

log = get_logger(__name__)

Handler = Callable[[Any], Awaitable[None]]
"""Takes an event or a `ResyncRequired`. Returning acknowledges it; after an exception it is redelivered."""

_EXITS = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""Exceptions that end more than a handler."""

_retrying: ContextVar[bool] = ContextVar("turnstream_retried", default=False)


def is_retry() -> bool:
    """Return whether the running handler was called with an event of a session that is retried separately."""
    return _retrying.get()


class StoppedError(Exception):
    """The consumer is stopping and the event is not handled."""


class HandlerFailure(NamedTuple):
    """Why an event was not handled, whether the attempt counts, and the code location that raised the error."""

    reason: str
    counts: bool
    where: str


class HandlerCalls:
    """Calls the handler of a consumer; `outages` records success and failure in all of its partitions."""

    def __init__(self, handler: Handler, retries: RetryPolicy) -> None:
        """Call `handler`; failed events are retried by the policy."""
        self.retries = retries
        self.outages = OutageDetector()
        self._handler = handler

    async def attempt(self, event: AnyEvent | ResyncRequired, *, retry: bool = False) -> HandlerFailure | None:
        """Call the handler once; return its failure, if any. `retry`: the session is one that is retried separately."""
        error = await self._call(event, retry=retry)
        if error is None:
            self.outages.succeeded()
            return None
        counts = not isinstance(error, NotHandled) or error.counts
        return HandlerFailure(_reason_of(error), counts, where_of(error))

    async def deliver_until_handled(self, resync: ResyncRequired, stopped: asyncio.Event) -> None:
        """Call the handler with a notice until it returns, however often that takes.

        Raises:
            StoppedError: the consumer is stopping.

        """
        backoff = Backoff()
        while not stopped.is_set():
            failed = await self.attempt(resync)
            if failed is None:
                return
            if not backoff.failing:
                log_failure(failed, resync)
            await wait(stopped, backoff.failed())
        raise StoppedError

    def failure_record(self, failed: HandlerFailure, attempts: int, doublings: int, *, is_parked: bool) -> Failure:
        """Return what is stored for a failure that counts: the attempts until now and the seconds until the next."""
        retry_in = self.retries.parked_pause() if is_parked else self.retries.pause(attempts)
        return Failure(failed.reason, attempts, None, doublings, is_parked, retry_in)

    def record_parked(self, record: Failure, failed: HandlerFailure, session_id: str, partition: int) -> None:
        """Log that a session was parked, and double the limits of the next one unless an event succeeds first."""
        self.outages.session_parked(record.doublings)
        fields = {"session_id": session_id, "partition": partition, "attempts": record.attempts}
        log.error("session parked, an event was not handled", reason=failed.reason, where=failed.where, **fields)

    async def _call(self, event: AnyEvent | ResyncRequired, *, retry: bool) -> BaseException | None:
        """Call the handler and return the exception that it raised, even `CancelledError`.

        A handler that cancels its own work must not end the consumer, so it gets its own task: before Python 3.13, a
        task group that failed in the handler would leave this task counted as cancelled. A cancellation of this task is
        passed on to the handler's, and is raised here even if the handler turns it into another exception.
        """
        this = asyncio.current_task()
        before = this.cancelling() if this else 0
        error: BaseException | None = None
        try:
            await asyncio.create_task(self._run_handler(event, retry=retry))
        except _EXITS:
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever it is, the event was not handled
            error = raised
        if this and this.cancelling() > before:
            raise asyncio.CancelledError from error
        return error

    async def _run_handler(self, event: AnyEvent | ResyncRequired, *, retry: bool) -> None:
        _retrying.set(retry)
        await self._handler(event)


def log_failure(failed: HandlerFailure, event: AnyEvent | ResyncRequired) -> None:
    """Log that an event was not handled: as a warning, or for debugging if the handler has asked not to count it."""
    level = logging.WARNING if failed.counts else logging.DEBUG
    fields = {"type": event.type, "reason": failed.reason, "where": failed.where}
    log.log(level, "event not handled, it will be redelivered", **fields)


async def wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait until an event is set or so many seconds have passed; `None` for no limit."""
    with suppress(TimeoutError):
        # Before Python 3.12 `wait_for` loses a cancellation that coincides with the event.
        async with asyncio.timeout(seconds):
            await event.wait()


def _reason_of(error: BaseException) -> str:
    """Return the reason that may be logged and stored: the text of other errors may quote a message's content."""
    return error.reason if isinstance(error, NotHandled) else type(error).__name__
