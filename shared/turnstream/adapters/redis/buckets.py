"""Outcomes are kept in buckets of time, unlinked whole when the cursor has left the window (design §2).

A bucket is half a window, so a command's window is three buckets and what is kept is at most one and a half windows.
"""

from collections.abc import Iterable, Mapping

from turnstream.ports import entry_time


class Buckets:
    """Which buckets a time belongs to and looks back at."""

    def __init__(self, window: float) -> None:
        """Keep outcomes for `window` seconds."""
        self._window = int(window * 1000)
        self._width = max(self._window // 2, 1)

    def of(self, entry_ms: int) -> int:
        """Return the bucket in which the outcome of a command is kept."""
        return entry_ms // self._width

    def seen_from(self, entry_ms: int) -> range:
        """Return the buckets that can hold an earlier outcome of a command."""
        return range(max(entry_ms - self._window, 0) // self._width, self.of(entry_ms) + 1)

    def expired(self, cursor: str, next_cursor: str) -> range:
        """Return the buckets that a cursor leaves behind as it moves on; there are none behind its own."""
        first = self.seen_from(entry_time(cursor)).start
        return range(first, min(self.seen_from(entry_time(next_cursor)).start, self.of(entry_time(cursor)) + 1))

    def lookups(self, commands: Mapping[str, int]) -> Iterable[tuple[int, list[str]]]:
        """Return the command ids to look up in each bucket, given their entry times in milliseconds."""
        wanted: dict[int, list[str]] = {}
        for command_id, entry_ms in commands.items():
            for bucket in self.seen_from(entry_ms):
                wanted.setdefault(bucket, []).append(command_id)
        return wanted.items()
