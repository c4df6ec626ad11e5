"""How long events are kept (design §2, §6)."""

import time
from collections.abc import Callable

from turnstream.adapters.memory.partition import Partition
from turnstream.ports import AGE_PRECISION


class Retention:
    """Trims event streams by age and by length.

    The age of events is told by marks, "by this time there were so many": their timestamps are those of their commands,
    which may have been parked for days.
    """

    def __init__(self, length: int, age: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep so many events of a partition, for so many seconds."""
        self._length = length
        self._age = age
        self._clock = clock

    def trim(self, partition: Partition) -> None:
        """Take what is not to be kept."""
        now, marks, events = self._clock(), partition.marks, partition.events
        last = partition.sequence - self._length
        while marks and now - marks[0][0] >= self._age:
            last = max(last, marks.popleft()[1])
        while events and events[0].sequence <= last:
            events.popleft()
        marked_at, marked = marks[-1] if marks else (-self._age, last)
        if partition.sequence > marked and now - marked_at >= self._age / AGE_PRECISION:
            marks.append((now, partition.sequence))
