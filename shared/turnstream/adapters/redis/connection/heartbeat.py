"""Finds a connection that is dead without saying so: one over which nothing comes is asked (ADR 24)."""

import asyncio
from collections.abc import Callable
from typing import Protocol

TIMER_SLACK_S = 0.001
"""Seconds by which a timer may come early."""

LATE_ANSWER_S = 0.05
"""Seconds in which an answer is still read that came while something else held up the event loop."""


class Watched(Protocol):
    """A connection, as its heartbeat sees it."""

    received_at: float
    """When something came over it last, by the event loop's clock."""

    def give_up(self, reason: str) -> None:
        """Close the connection, with a reason for its user."""
        ...


class Heartbeat:
    """Has a connection asked that was quiet for half of a time, and gives up one that owes an answer for all of it.

    So a dead connection is found within one and a half of these times. There is one timer, however much goes over it.
    """

    def __init__(
        self, watched: Watched, seconds: float, asked_at: Callable[[], float | None], ask: Callable[[], None]
    ) -> None:
        """Begin to watch.

        Args:
            watched: the connection.
            seconds: for which an answer may be owed while nothing else comes.
            asked_at: returns the time of the oldest unanswered request, `None` if there is none.
            ask: asks something.

        """
        self._watched = watched
        self._seconds = seconds
        self._asked_at = asked_at
        self._ask = ask
        self._is_overdue = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds / 2, self._check)

    def stop(self) -> None:
        """End it."""
        self._timer.cancel()

    def _check(self) -> None:
        now, asked_at = self._loop.time(), self._asked_at()
        due = max(asked_at or 0.0, self._watched.received_at) + self._seconds
        if asked_at is None:
            self._is_overdue = False
            self._check_at(self._asked_if_quiet(now))
        elif now + TIMER_SLACK_S < due:
            self._is_overdue = False
            self._check_at(min(due, now + self._seconds / 2))
        elif not self._is_overdue:
            # Something may have held up the event loop: then the answer waits to be read, and timers come first.
            self._is_overdue = True
            self._check_at(now + LATE_ANSWER_S)
        else:
            self._watched.give_up(f"it did not answer for {self._seconds:g} s")

    def _asked_if_quiet(self, now: float) -> float:
        """Ask if nothing came for long; return when to look again."""
        quiet_until = self._watched.received_at + self._seconds / 2
        if now + TIMER_SLACK_S < quiet_until:
            return quiet_until
        self._ask()
        return now + self._seconds / 2

    def _check_at(self, when: float) -> None:
        self._timer = self._loop.call_at(when, self._check)
