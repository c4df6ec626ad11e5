"""The workers of a deployment (design §5): they share one process, so no lease ever expires."""

from collections.abc import Mapping, Sequence

from turnstream.adapters.memory.members import MemoryMembers
from turnstream.adapters.memory.partition import Partition
from turnstream.adapters.memory.retention import Retention
from turnstream.ports import Condition, InFlight, Ownership, PartitionState, nothing_in_flight


class MemoryOwnership(MemoryMembers, Ownership):
    """The leases of partitions, and the registry of the workers that share them."""

    def __init__(self, partitions: Sequence[Partition], retention: Retention) -> None:
        """Lend these partitions; `tidy` leaves what is to be kept of each."""
        super().__init__()
        self._partitions = partitions
        self._retention = retention

    async def take(self, partition: int, member_id: str) -> PartitionState | None:
        """Become the owner of a partition that is free; `None` while another live worker owns it."""
        wanted = self._partitions[partition]
        return wanted.take(member_id) if self.may_take(wanted.lease, member_id) else None

    async def renew(self, states: Sequence[PartitionState]) -> list[bool]:
        """Keep partitions; False for each that was lost."""
        return [self._partitions[state.partition].lease.renew(state.token) for state in states]

    async def release(self, states: Sequence[PartitionState]) -> None:
        """Release partitions, and notify the members that may take them."""
        released = [self._partitions[state.partition].release(state.token) for state in states]
        if any(released):
            self.notifier.notify()

    async def condition(self, partition: int) -> Condition:  # noqa: ARG002 - all are in this process
        """Return which workers there are; they live as long as they are known."""
        return Condition(dict.fromkeys(self.alive, 0.0), lease=1.0)

    async def owners(self) -> Mapping[int, str]:
        """Return the worker that owns each partition."""
        owners = {number: partition.lease.holder for number, partition in enumerate(self._partitions)}
        return {number: owner for number, owner in owners.items() if owner in self.alive}

    async def tidy(
        self,
        states: Sequence[PartitionState],
        in_flight: InFlight = nothing_in_flight,  # noqa: ARG002 - nobody else takes commands here
    ) -> Sequence[int]:
        """Take events that are not kept any longer; partitions that have another owner by now are left alone."""
        for state in states:
            partition = self._partitions[state.partition]
            if partition.token == state.token:
                self._retention.trim(partition)
        return ()
