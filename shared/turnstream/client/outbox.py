"""Commands on their way out: what is sent at the same time travels together, in order (design §10)."""

import asyncio
from collections.abc import Sequence

from turnstream.errors import TurnstreamError
from turnstream.ports import CommandEntry, CommandQueue

MAX_TOGETHER = 256
MAX_BYTES_TOGETHER = 1024 * 1024


class Outbox:
    """One lane a partition: a lane has one publication under way, so that nothing in it overtakes."""

    def __init__(self, queue: CommandQueue) -> None:
        """Publish to these streams."""
        self._queue = queue
        self._lanes: dict[int, _Lane] = {}

    async def publish(self, partition: int, entry: CommandEntry) -> None:
        """Publish a command; on return it is durably queued.

        Raises:
            Overloaded: too many wait there already.
            Unavailable: it is not known whether it is queued.

        """
        await self.put(partition, entry)

    def put(self, partition: int, entry: CommandEntry) -> asyncio.Future[None]:
        """Put a command into its lane; the future tells when it is queued."""
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(self._queue, partition)
        return lane.put(entry)

    async def aclose(self) -> None:
        """Wait for what is under way."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task]
        await asyncio.gather(*tasks)


class _Lane:
    def __init__(self, queue: CommandQueue, partition: int) -> None:
        self.task: asyncio.Task[None] | None = None
        self._queue = queue
        self._partition = partition
        self._waiting: list[tuple[CommandEntry, asyncio.Future[None]]] = []

    def put(self, entry: CommandEntry) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if self.task is None:
            self.task = asyncio.create_task(self._drain())
        return future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                count = _together([entry for entry, _ in self._waiting[:MAX_TOGETHER]])
                taken, self._waiting = self._waiting[:count], self._waiting[count:]
                await self._publish(taken)
        finally:
            self.task = None

    async def _publish(self, taken: Sequence[tuple[CommandEntry, asyncio.Future[None]]]) -> None:
        failure: TurnstreamError | None = None
        try:
            await self._queue.publish(self._partition, [entry for entry, _ in taken])
        except TurnstreamError as error:
            failure = error
        for _, future in taken:
            if future.done():
                continue
            if failure:
                future.set_exception(failure)
            else:
                future.set_result(None)


def _together(entries: Sequence[CommandEntry]) -> int:
    """Return how many of the entries travel together, at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.data)
        if count and size > MAX_BYTES_TOGETHER:
            return count
    return len(entries)
