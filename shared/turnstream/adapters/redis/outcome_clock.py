"""By which time outcomes are kept: that of their commands' stream entries, as far as their ids tell one.

A producer can choose an entry's id, and a server's clock can be set: then the ids of a stream stand still, far ahead or
behind. From then on the time that passes counts, so that outcomes are forgotten all the same, and never too early.
"""

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from turnstream.ports.values import LAST_MS


class Moment(NamedTuple):
    """The time of a partition's outcomes at one moment, in milliseconds.

    `before` is that of the last commit, `passed` what it would be if only the time since counted, and `latest` the
    largest time that an id can tell.
    """

    before: int
    passed: int
    latest: int

    def of(self, entry_ms: int) -> int:
        """Return the time by which the outcome of a command is kept, given the time in its entry's id."""
        return entry_ms if self.before <= entry_ms <= self.latest else self.passed


class OutcomeClock:
    """The time of one partition's outcomes, in the hands of its owner; it never goes back."""

    def __init__(self, window: float, clock: Callable[[], float] = monotonic) -> None:
        """Let ids be ahead of the server by up to `window` seconds; `clock` tells the seconds that pass."""
        self._ahead = int(window * 1000)
        self._clock = clock
        self._time = 0
        self._at = self._heard_at = clock()
        self._server_ms: int | None = None

    def start(self, time_ms: int, cursor_ms: int, server_ms: int) -> None:
        """Begin as a new owner.

        Args:
            time_ms: the time that is stored for when ids tell none, 0 if there is none.
            cursor_ms: the time in the id of the last applied command.
            server_ms: the server's time.

        """
        self.hear(server_ms)
        told = cursor_ms if cursor_ms <= server_ms + self._ahead else 0
        self._time = max(time_ms, told) or (server_ms if cursor_ms else 0)
        self._at = self._clock()

    def hear(self, server_ms: int) -> None:
        """Learn the server's time."""
        self._server_ms, self._heard_at = server_ms, self._clock()

    def moment(self) -> Moment:
        """Return the time now."""
        now = self._clock()
        passed = self._time + int((now - self._at) * 1000)
        if self._server_ms is None:
            # Who has not taken the partition only reads.
            return Moment(self._time, passed, LAST_MS)
        return Moment(self._time, passed, self._server_ms + int((now - self._heard_at) * 1000) + self._ahead)

    def move(self, time_ms: int, *, told: bool) -> None:
        """Note the time of a batch that was committed, and whether its id has told it."""
        now = self._clock()
        # Of what has passed, the rest below a millisecond and the time of the commit itself go on counting: where
        # batches come fast, that is all there is.
        self._at = now if told else min(now, self._at + (time_ms - self._time) / 1000)
        self._time = max(self._time, time_ms)
