"""What waits for a consumer: so many events, and so many bytes of them (design §6)."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Buffer(Generic[Item]):
    """A queue that says when it is full, and when there is room again: at half of both limits."""

    def __init__(self, most: int, most_bytes: int) -> None:
        """Hold so many events, of together so many bytes; one that is larger is held alone."""
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Tell whether another event may be put in."""
        return len(self._waiting) < self._most and self._bytes < self._most_bytes

    def room_for(self, sharing: int) -> int:
        """Return how many events each of some streams may bring; at least one, for which `until_room` waits."""
        return max(1, (self._most - len(self._waiting)) // sharing)

    def append(self, item: Item, size: int) -> None:
        """Put an event of so many bytes in."""
        self._waiting.append((item, size))
        self._bytes += size

    def popleft(self) -> Item:
        """Take the first one out."""
        item, size = self._waiting.popleft()
        self._bytes -= size
        if len(self._waiting) <= self._most // 2 and self._bytes <= self._most_bytes // 2:
            self._emptied.set()
        return item

    async def until_room(self, needed: int) -> None:
        """Wait until so many more may be put in."""
        while len(self._waiting) + needed > max(self._most, needed) or self._bytes >= self._most_bytes:
            self._emptied.clear()
            await self._emptied.wait()
