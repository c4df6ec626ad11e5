"""Who applies the commands of which partition (design §5): workers of one process, so no lease ever runs out."""

from collections.abc import AsyncIterator, Sequence

from turnstream.adapters.memory.bell import Bell
from turnstream.adapters.memory.partition import Partition
from turnstream.adapters.memory.retention import Retention
from turnstream.ports import PartitionState


class MemoryOwnership:
    """The leases of partitions, and the registry of the workers that share them."""

    def __init__(self, partitions: Sequence[Partition], retention: Retention) -> None:
        """Lend these partitions; `tidy` leaves what is to be kept of each."""
        self._partitions = partitions
        self._retention = retention
        self._workers: dict[str, None] = {}
        self._bell = Bell()

    async def beat(self, worker_id: str) -> Sequence[str]:
        """Announce that a worker lives; return all live workers."""
        if worker_id not in self._workers:
            self._workers[worker_id] = None
            self._bell.ring()
        return list(self._workers)

    async def watch(self, worker_id: str) -> None:
        """Do nothing: what ends a worker of this process ends all of them."""

    async def depart(self, worker_id: str) -> None:
        """Announce that a worker leaves; what it still holds is free to take."""
        self._workers.pop(worker_id, None)
        self._bell.ring()

    async def take(self, partition: int, worker_id: str) -> PartitionState | None:
        """Become the owner of a partition that is free; `None` while another live worker owns it."""
        wanted = self._partitions[partition]
        if wanted.owner not in self._workers:
            wanted.expire()
        return wanted.take(worker_id)

    async def renew(self, states: Sequence[PartitionState]) -> list[bool]:
        """Keep partitions; False for each that was lost."""
        return [self._partitions[state.partition].renew(state.token) for state in states]

    async def release(self, states: Sequence[PartitionState]) -> None:
        """Give partitions up, and ring the bell for who waits for them."""
        released = [self._partitions[state.partition].release(state.token) for state in states]
        if any(released):
            self._bell.ring()

    async def changes(self) -> AsyncIterator[None]:
        """Yield once when nothing can be missed any more, then whenever a worker came, left or released something."""
        rings = self._bell.listen()
        yield
        async for _ in rings:
            yield

    async def tidy(self, states: Sequence[PartitionState]) -> None:
        """Take events that are not kept any longer; partitions that have another owner by now are left alone."""
        for state in states:
            partition = self._partitions[state.partition]
            if partition.token == state.token:
                self._retention.trim(partition)

    async def aclose(self) -> None:
        """End all waiting for changes."""
        self._bell.close()
