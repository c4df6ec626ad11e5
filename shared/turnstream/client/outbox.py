"""Commands on their way out: what is sent at the same time travels together, in order (design §10)."""

import asyncio
from collections import deque
from collections.abc import Sequence

from turnstream.ports import CommandEntry, CommandQueue

MAX_TOGETHER = 256
MAX_BYTES_TOGETHER = 1024 * 1024


class Outbox:
    """One lane a partition: a lane has one publication under way, so that nothing in it overtakes."""

    def __init__(self, queue: CommandQueue) -> None:
        """Publish to these streams."""
        self._queue = queue
        self._lanes: dict[int, _Lane] = {}

    def put(self, partition: int, entries: Sequence[CommandEntry]) -> asyncio.Future[None]:
        """Put commands into a lane, in this order.

        Returns:
            A future that is done when all of them are durably queued; it fails with `Overloaded` when too many wait
            there already, with `Unavailable` when it is not known whether they are queued.

        """
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(self._queue, partition)
        return lane.put(entries)

    async def aclose(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task))


class _Put:
    """What one caller put into a lane; `taken` of its entries are under way or published."""

    def __init__(self, entries: Sequence[CommandEntry]) -> None:
        self.entries = entries
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken = 0

    @property
    def all_taken(self) -> bool:
        return self.taken == len(self.entries)

    def settle(self, failure: Exception | None) -> None:
        if self.future.done():
            return
        if failure:
            self.future.set_exception(failure)
        else:
            self.future.set_result(None)


class _Lane:
    def __init__(self, queue: CommandQueue, partition: int) -> None:
        self.task: asyncio.Task[None] | None = None
        self._queue = queue
        self._partition = partition
        self._waiting: deque[_Put] = deque()

    def put(self, entries: Sequence[CommandEntry]) -> asyncio.Future[None]:
        put = _Put(entries)
        self._waiting.append(put)
        if self.task is None:
            self.task = asyncio.create_task(self._drain())
        return put.future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._publish(*self._together())
        finally:
            self.task = None

    async def _publish(self, entries: Sequence[CommandEntry], puts: Sequence[_Put]) -> None:
        failure: Exception | None = None
        try:
            await self._queue.publish(self._partition, entries)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            failure = error
            # What is left of a failed put must not be applied without what was lost of it.
            if self._waiting and self._waiting[0] is puts[-1]:
                self._waiting.popleft()
        for put in puts:
            if failure or put.all_taken:
                put.settle(failure)

    def _together(self) -> tuple[list[CommandEntry], list[_Put]]:
        """Take what travels together, at least one entry, and the puts that it comes from."""
        entries: list[CommandEntry] = []
        puts: list[_Put] = []
        size = 0
        while self._waiting and len(entries) < MAX_TOGETHER:
            put = self._waiting[0]
            entry = put.entries[put.taken]
            size += len(entry.data)
            if entries and size > MAX_BYTES_TOGETHER:
                break
            entries.append(entry)
            put.taken += 1
            if not puts or puts[-1] is not put:
                puts.append(put)
            if put.all_taken:
                self._waiting.popleft()
        return entries, puts
