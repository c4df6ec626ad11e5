"""The parts of the adapter, put together."""

from collections.abc import Mapping

from turnstream.adapters.memory.channels import MemoryChannels
from turnstream.adapters.memory.command_queue import MemoryQueue
from turnstream.adapters.memory.consumer_store import MemoryConsumerStore
from turnstream.adapters.memory.event_log import MemoryEventLog
from turnstream.adapters.memory.ownership import MemoryOwnership
from turnstream.adapters.memory.parked_events import ParkedEventLimits
from turnstream.adapters.memory.partition import Partition
from turnstream.adapters.memory.quarantine import MemoryQuarantine
from turnstream.adapters.memory.retention import EventLimits, Retention
from turnstream.adapters.memory.session_reader import MemoryReader
from turnstream.adapters.memory.session_store import MemoryStore


class MemoryBackend:
    """A `Backend` that lives as long as the process; clients and workers share it in one event loop."""

    def __init__(
        self,
        partitions: int = 64,
        *,
        max_backlog: int = 100_000,
        deduplication_window: float = 120.0,
        parked_events: ParkedEventLimits | None = None,
        event_limits: EventLimits | None = None,
    ) -> None:
        """Start empty.

        Args:
            partitions: how many there are.
            max_backlog: waiting commands of one partition above which new ones are refused.
            deduplication_window: seconds for which a resent command is recognised.
            parked_events: the limits of the queues of a subscription in each partition.
            event_limits: the events of each partition that `tidy` leaves.

        """
        stored = [Partition(number, deduplication_window) for number in range(partitions)]
        self.partitions = partitions
        self.channels = MemoryChannels()
        self.store = MemoryStore(stored, self.channels)
        self.reader = MemoryReader(stored)
        self.events = MemoryEventLog(stored)
        self.queue = MemoryQueue(stored, max_backlog)
        self.quarantine = MemoryQuarantine(stored, self.queue)
        self.ownership = MemoryOwnership(stored, Retention(event_limits or EventLimits()))
        self.subscriptions = MemoryConsumerStore(partitions, parked_events or ParkedEventLimits())

    def append_raw(self, partition: int, fields: Mapping[bytes, bytes]) -> str:
        """Append any fields to a partition's stream, as another program might; return the entry's id."""
        return self.queue.append_raw(partition, fields)

    async def aclose(self) -> None:
        """End all subscriptions and waiting calls; the stored data stays."""
        await self.channels.aclose()
        await self.ownership.aclose()
        await self.subscriptions.aclose()
        await self.queue.wake()
