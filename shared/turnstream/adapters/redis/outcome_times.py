"""The time by which outcomes of commands are kept, and the buckets that hold them (design §2, ADR 26).

Outcomes are kept in hashes, one for each span of time as long as the deduplication window. A bucket is deleted whole
after the cursor has left the window. The window of a command lies in two buckets, and up to two windows are kept.

The time of an outcome is the time in the id of its command's stream entry, as far as ids can be trusted. A producer can
choose an id, and the clock of a server can be set. The ids of a stream then do not advance, far ahead or far in the
past. From then on the time that passes counts, so that outcomes still expire, and never too early.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import NamedTuple

from turnstream.codec.envelope import entry_time
from turnstream.ports import Batch
from turnstream.ports.values import LAST_MS


class OutcomeTime(NamedTuple):
    """The time by which a partition's outcomes are kept, in milliseconds.

    `before` is that of the last commit, `passed` what it would be if only the time since counted, and `latest` the
    largest time that is accepted from an id.
    """

    before: int
    passed: int
    latest: int

    def of(self, entry_ms: int) -> int:
        """Return the time by which the outcome of a command is kept, given the time in its entry's id."""
        return entry_ms if self.before <= entry_ms <= self.latest else self.passed


class OutcomeClock:
    """The time of one partition's outcomes, kept by its owner; it never goes back."""

    def __init__(self, window: float, clock: Callable[[], float] = monotonic) -> None:
        """Let ids be ahead of the server by up to `window` seconds; `clock` returns seconds."""
        self._ahead = int(window * 1000)
        self._clock = clock
        self._time = 0
        self._at = self._observed_at = clock()
        self._server_ms: int | None = None

    def start(self, time_ms: int, cursor_ms: int, server_ms: int) -> None:
        """Begin as a new owner.

        Args:
            time_ms: the stored time, for ids that give none; 0 if there is none.
            cursor_ms: the time in the id of the last applied command.
            server_ms: the server's time.

        """
        self.observe(server_ms)
        by_cursor = cursor_ms if cursor_ms <= server_ms + self._ahead else 0
        self._time = max(time_ms, by_cursor) or (server_ms if cursor_ms else 0)
        self._at = self._clock()

    def observe(self, server_ms: int) -> None:
        """Learn the server's time."""
        self._server_ms, self._observed_at = server_ms, self._clock()

    def now(self) -> OutcomeTime:
        """Return the time now."""
        now = self._clock()
        passed = self._time + int((now - self._at) * 1000)
        if self._server_ms is None:
            # A process that has not taken the partition only reads.
            return OutcomeTime(self._time, passed, LAST_MS)
        return OutcomeTime(self._time, passed, self._server_ms + int((now - self._observed_at) * 1000) + self._ahead)

    def move(self, time_ms: int, *, from_id: bool) -> None:
        """Note the time of a committed batch, and whether it came from its id."""
        now = self._clock()
        # The rest below a millisecond and the time of the commit itself keep counting: if batches come fast, there is
        # nothing else.
        self._at = now if from_id else min(now, self._at + (time_ms - self._time) / 1000)
        self._time = max(self._time, time_ms)


class BatchBuckets(NamedTuple):
    """The buckets of one batch, computed once.

    `of` maps the entry time of each outcome, in milliseconds, to its bucket, and `lookups` maps a bucket to those that
    can hold an earlier outcome. Buckets from `first_kept` on are written; those in `expired` are deleted. `cursor_ms`
    is the time in the id of the new cursor, and `kept_by` is the time that counts.
    """

    of: Mapping[int, int]
    lookups: Mapping[int, range]
    first_kept: int
    expired: range
    cursor_ms: int
    kept_by: int


class OutcomeBuckets:
    """Which buckets a time belongs to and looks back at."""

    def __init__(self, window: float, now: OutcomeTime | None = None) -> None:
        """Keep outcomes for `window` seconds, by the times in entries' ids, or what these mean at the time `now`."""
        self._window = window
        self.window_ms = self._width = max(int(window * 1000), 1)
        self._now = now

    def at(self, now: OutcomeTime) -> "OutcomeBuckets":
        """Return the buckets as they are at this time."""
        return OutcomeBuckets(self._window, now)

    def time(self, entry_ms: int) -> int:
        """Return the time by which the outcome of a command is kept."""
        return self._now.of(entry_ms) if self._now else entry_ms

    def of(self, entry_ms: int) -> int:
        """Return the bucket in which the outcome of a command is kept."""
        return self.time(entry_ms) // self._width

    def expired(self, cursor: str, next_cursor: str) -> range:
        """Return the buckets that expire when the cursor advances, at most up to its own."""
        before = self._now.before if self._now else entry_time(cursor)
        own = before // self._width
        return range(max(own - 1, 0), min(self.first_kept(next_cursor), own + 1))

    def first_kept(self, cursor: str) -> int:
        """Return the oldest bucket that commands after a cursor may look at."""
        return max(self.of(entry_time(cursor)) - 1, 0)

    def lookups(self, commands: Mapping[str, int]) -> Mapping[int, list[str]]:
        """Return the command ids to look up in each bucket, given their entry times in milliseconds."""
        wanted: dict[int, list[str]] = {}
        for command_id, entry_ms in commands.items():
            for bucket in lookup_range(self.of(entry_ms)):
                wanted.setdefault(bucket, []).append(command_id)
        return wanted

    def for_batch(self, batch: Batch) -> BatchBuckets:
        """Return all that the commit of a batch needs to know about buckets."""
        outcomes = (*batch.outcomes, *(batch.parking.outcomes if batch.parking else ()))
        cursor_ms = entry_time(batch.after.cursor)
        buckets = {recorded.entry_ms: self.of(recorded.entry_ms) for recorded in outcomes}
        return BatchBuckets(
            buckets,
            {bucket: lookup_range(bucket) for bucket in buckets.values()},
            self.first_kept(batch.after.cursor),
            self.expired(batch.before.cursor, batch.after.cursor),
            cursor_ms,
            self.time(cursor_ms),
        )


def lookup_range(bucket: int) -> range:
    """Return the buckets that can hold an earlier outcome of a command of this bucket."""
    return range(max(bucket - 1, 0), bucket + 1)
