"""A notification that wakes every task that waits for it."""

import asyncio
from collections.abc import AsyncIterator


class Notifier:
    """Notifies waiting tasks. A task that was not waiting sees by the count that it has missed a notification."""

    def __init__(self) -> None:
        """Start without notifications."""
        self.count = 0
        self.closed = False
        self._wakeup = asyncio.Event()

    def notify(self) -> None:
        """Wake all waiting tasks."""
        self.count += 1
        wakeup, self._wakeup = self._wakeup, asyncio.Event()
        wakeup.set()

    def close(self) -> None:
        """End all iterators."""
        self.closed = True
        self.notify()

    async def wait(self) -> None:
        """Wait for the next notification."""
        await self._wakeup.wait()

    def listen(self) -> AsyncIterator[None]:
        """Yield after each later notification; several since the last one yielded count as one."""
        return self._listen(self.count)

    async def _listen(self, seen: int) -> AsyncIterator[None]:
        while True:
            while self.count == seen and not self.closed:
                await self.wait()
            if self.closed:
                return
            seen = self.count
            yield
