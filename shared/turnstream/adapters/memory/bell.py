"""A bell that wakes all who wait for it."""

import asyncio
from collections.abc import AsyncIterator


class Bell:
    """Rings are not kept: who does not wait, misses them, but can see that there were some."""

    def __init__(self) -> None:
        """Start silent."""
        self.rings = 0
        self.closed = False
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake everyone."""
        self.rings += 1
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()

    def close(self) -> None:
        """End all listening."""
        self.closed = True
        self.ring()

    async def wait(self) -> None:
        """Wait for the next ring."""
        await self._rung.wait()

    def listen(self) -> AsyncIterator[None]:
        """Yield after every ring from now on; several since the last look are one."""
        return self._listen(self.rings)

    async def _listen(self, heard: int) -> AsyncIterator[None]:
        while True:
            while self.rings == heard and not self.closed:
                await self.wait()
            if self.closed:
                return
            heard = self.rings
            yield
