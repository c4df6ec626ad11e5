"""Outcomes are kept in buckets of time, unlinked whole when the cursor has left the window (design §2).

A bucket is as long as the window: a command's window lies in two of them, and up to two windows are kept.
"""

from collections.abc import Mapping

from turnstream.ports import entry_time


class Buckets:
    """Which buckets a time belongs to and looks back at."""

    def __init__(self, window: float) -> None:
        """Keep outcomes for `window` seconds."""
        self._width = max(int(window * 1000), 1)

    def of(self, entry_ms: int) -> int:
        """Return the bucket in which the outcome of a command is kept."""
        return entry_ms // self._width

    def seen_by(self, bucket: int) -> range:
        """Return the buckets that can hold an earlier outcome of a command of this bucket."""
        return range(max(bucket - 1, 0), bucket + 1)

    def expired(self, cursor: str, next_cursor: str) -> range:
        """Return the buckets that a cursor leaves behind as it moves on; there are none behind its own."""
        own = self.of(entry_time(cursor))
        return range(self.first_kept(cursor), min(self.first_kept(next_cursor), own + 1))

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
