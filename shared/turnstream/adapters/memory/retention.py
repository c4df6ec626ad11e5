"""How long events are kept (design §2, §6)."""

import time
from collections.abc import Callable
from typing import NamedTuple

from turnstream.adapters.memory.partition import Partition
from turnstream.ports import AGE_PRECISION


class EventLimits(NamedTuple):
    """How many events of a partition are kept, for how many seconds, and how many bytes they may have together."""

    length: int = 10_000
    age: float = 86_400.0
    size: int = 16 * 1024 * 1024


class Retention:
    """Trims event streams by age, by length and by bytes.

    Marks give the age of events: each holds a time and the number of events until then. The events' own timestamps are
    those of their commands, which may have been parked for days.
    """

    def __init__(self, limits: EventLimits, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep what is within these limits."""
        self._length, self._age, self._size = limits
        self._clock = clock

    def trim(self, partition: Partition) -> None:
        """Take what is not to be kept."""
        now, marks, events = self._clock(), partition.marks, partition.events
        last = partition.sequence - self._length
        while marks and now - marks[0][0] >= self._age:
            last = max(last, marks.popleft()[1])
        while events and (events[0].sequence <= last or (partition.event_bytes > self._size and len(events) > 1)):
            partition.event_bytes -= len(events.popleft().payload)
        marked_at, marked = marks[-1] if marks else (-self._age, last)
        if partition.sequence > marked and now - marked_at >= self._age / AGE_PRECISION:
            marks.append((now, partition.sequence))
