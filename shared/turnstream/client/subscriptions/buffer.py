"""The buffer between a subscription and the code that iterates over it (design §6)."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class EventBuffer(Generic[Item]):
    """A queue of events, limited by their number and their bytes.

    `wait_for_room` continues when half of both limits is free: pages are then read in large pieces.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        """Create an empty buffer; an event larger than `max_bytes` is held alone."""
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._half_empty = asyncio.Event()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def has_room(self) -> bool:
        """Whether another event may be appended."""
        return len(self._items) < self._max_events and self._bytes < self._max_bytes

    def room_for_each(self, readers: int) -> int:
        """Return how many events each of several readers may append: at least one, as `wait_for_room` ensures."""
        return max(1, (self._max_events - len(self._items)) // readers)

    def append(self, item: Item, size: int) -> None:
        """Append an event of `size` bytes."""
        self._items.append((item, size))
        self._bytes += size
        self._changed.set()

    def popleft(self) -> Item:
        """Remove and return the oldest event."""
        item, size = self._items.popleft()
        self._bytes -= size
        if len(self._items) <= self._max_events // 2 and self._bytes <= self._max_bytes // 2:
            self._half_empty.set()
        return item

    async def wait_for_room(self, events: int) -> None:
        """Wait until this number of events may be appended."""
        while len(self._items) + events > max(self._max_events, events) or self._bytes >= self._max_bytes:
            self._half_empty.clear()
            await self._half_empty.wait()

    async def wait_for_change(self) -> None:
        """Wait for the next `append` or `wake`."""
        self._changed.clear()
        await self._changed.wait()

    def wake(self) -> None:
        """End `wait_for_change` although no event has been appended."""
        self._changed.set()
