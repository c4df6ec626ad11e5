"""Calling a subscriber's handler: again and again, and when to give an event up (design §6)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from turnstream.backoff import Backoff
from turnstream.client.listening.resync import ResyncRequired
from turnstream.domain.events import AnyEvent
from turnstream.errors import NotHandled
from turnstream.telemetry import get_logger, where_of

log = get_logger(__name__)

Handler = Callable[[Any], Awaitable[None]]
"""Takes an event or a `ResyncRequired`; to return is to acknowledge, to raise is to have it come again."""

_ENDS = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""What ends more than a handler."""


class GivenUpError(Exception):
    """An event was tried as often as it may be."""

    def __init__(self, reason: str, attempts: int) -> None:
        """Note what the last error was, and how many attempts there were."""
        super().__init__(reason, attempts)
        self.reason = reason
        self.attempts = attempts


class StoppedError(Exception):
    """The member stops before an event was handled."""


class Handling:
    """Tries one event after the other, in the order in which they are given."""

    def __init__(self, handler: Handler, attempts: int) -> None:
        """Try each event up to `attempts` times.

        Where nothing succeeds any more, more is wrong than one event: each is then tried twice as often as the one that
        was given up before it, in whatever partition, so that hours in which another service is down park a few
        sessions, and not one in every partition at a time.
        """
        self._handler = handler
        self._attempts = attempts
        self._given_up = 0

    async def handle(self, event: AnyEvent | ResyncRequired, stopped: asyncio.Event) -> None:
        """Return when the event is handled; what is `stopped` meanwhile is not tried again.

        Raises:
            GivenUpError: it failed too often.
            StoppedError: the member stops.

        """
        backoff = Backoff()
        attempts = most = 0
        while not stopped.is_set():
            error = await self._failure(event)
            if error is None:
                self._given_up = 0
                return
            counts = not isinstance(error, NotHandled) or error.counts
            attempts += counts
            # Others may have been given up meanwhile. It never shrinks: what was tried often while nothing succeeded is
            # not given up at once when something does.
            most = max(most, self._attempts << self._given_up)
            if attempts >= most:
                self._given_up += 1
                raise GivenUpError(_reason_of(error), attempts) from error
            if not backoff.failing:
                # What does not count is known to whoever says so.
                level = logging.WARNING if counts else logging.DEBUG
                about = {"type": event.type, "reason": _reason_of(error), "where": where_of(error)}
                log.log(level, "event not handled, it comes again", **about)
            await _pause(stopped, backoff.failed())
        raise StoppedError

    async def _failure(self, event: AnyEvent | ResyncRequired) -> BaseException | None:
        """Call the handler and return what it raised, also a cancellation of its own: that must not end this member.

        It gets a task of its own, for before Python 3.13 a task group that failed in it leaves its task counted as
        cancelled. Cancelling this one cancels that one, and counts even where the handler makes something else of it.
        """
        this = asyncio.current_task()
        before = this.cancelling() if this else 0
        error: BaseException | None = None
        try:
            await asyncio.create_task(self._call(event))
        except _ENDS:
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever it is, the event was not handled
            error = raised
        if this and this.cancelling() > before:
            raise asyncio.CancelledError from error
        return error

    async def _call(self, event: AnyEvent | ResyncRequired) -> None:
        await self._handler(event)


def _reason_of(error: BaseException) -> str:
    """Return what may be told of an error: the text of others may quote a message's content."""
    return error.reason if isinstance(error, NotHandled) else type(error).__name__


async def _pause(stopped: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopped.wait()
