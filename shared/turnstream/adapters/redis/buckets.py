"""Outcomes are kept in buckets of time, unlinked whole when the cursor has left the window (design §2).

A bucket is as long as the window: a command's window lies in two of them, and up to two windows are kept.
"""

from collections.abc import Mapping

from turnstream.adapters.redis.outcome_clock import Moment
from turnstream.ports import entry_time


class Buckets:
    """Which buckets a time belongs to and looks back at."""

    def __init__(self, window: float, moment: Moment | None = None) -> None:
        """Keep outcomes for `window` seconds, by the times in entries' ids, or what these mean at a moment."""
        self._window = window
        self.window_ms = self._width = max(int(window * 1000), 1)
        self._moment = moment

    def at(self, moment: Moment) -> "Buckets":
        """Return the buckets as they are at a moment."""
        return Buckets(self._window, moment)

    def time(self, entry_ms: int) -> int:
        """Return the time by which the outcome of a command is kept."""
        return self._moment.of(entry_ms) if self._moment else entry_ms

    def of(self, entry_ms: int) -> int:
        """Return the bucket in which the outcome of a command is kept."""
        return self.time(entry_ms) // self._width

    def seen_by(self, bucket: int) -> range:
        """Return the buckets that can hold an earlier outcome of a command of this bucket."""
        return range(max(bucket - 1, 0), bucket + 1)

    def expired(self, cursor: str, next_cursor: str) -> range:
        """Return the buckets that a cursor leaves behind as it moves on; there are none behind its own."""
        before = self._moment.before if self._moment else entry_time(cursor)
        own = before // self._width
        return range(max(own - 1, 0), min(self.first_kept(next_cursor), own + 1))

    def first_kept(self, cursor: str) -> int:
        """Return the oldest bucket that commands behind a cursor may look at."""
        return max(self.of(entry_time(cursor)) - 1, 0)

    def lookups(self, commands: Mapping[str, int]) -> Mapping[int, list[str]]:
        """Return the command ids to look up in each bucket, given their entry times in milliseconds."""
        wanted: dict[int, list[str]] = {}
        for command_id, entry_ms in commands.items():
            for bucket in self.seen_by(self.of(entry_ms)):
                wanted.setdefault(bucket, []).append(command_id)
        return wanted
