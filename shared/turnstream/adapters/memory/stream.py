"""The command stream of one partition."""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from operator import itemgetter

from turnstream.ports import RawEntry

EntryId = tuple[int, int]
"""Milliseconds since 1970, and the number within that millisecond."""


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class CommandStream:
    """The commands that are not yet applied, under ids that always grow."""

    def __init__(self, clock: Callable[[], int] = now) -> None:
        """Start empty; the clock gives milliseconds since 1970, and may be set back."""
        self._clock = clock
        self._last: EntryId = (0, 0)
        self._entries: list[tuple[EntryId, dict[bytes, bytes]]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, fields: Mapping[bytes, bytes]) -> str:
        """Append an entry and return its id."""
        last_ms, number = self._last
        self._last = max((self._clock(), 0), (last_ms, number + 1))
        self._entries.append((self._last, dict(fields)))
        return _text(self._last)

    def after(self, cursor: str, count: int) -> list[RawEntry]:
        """Return up to `count` entries after a cursor."""
        start = self._index_after(cursor)
        return [RawEntry(_text(entry_id), dict(fields)) for entry_id, fields in self._entries[start : start + count]]

    def drop(self, cursor: str) -> None:
        """Forget the entries up to a cursor."""
        del self._entries[: self._index_after(cursor)]

    def _index_after(self, cursor: str) -> int:
        return bisect_right(self._entries, _parsed(cursor), key=itemgetter(0))


def _text(entry_id: EntryId) -> str:
    return f"{entry_id[0]}-{entry_id[1]}"


def _parsed(cursor: str) -> EntryId:
    milliseconds, _, number = cursor.partition("-")
    return int(milliseconds), int(number)
