"""Parked commands and malformed entries (design §4)."""

from collections.abc import Mapping, Sequence

from turnstream.adapters.memory.command_queue import MemoryQueue
from turnstream.adapters.memory.partition import Partition
from turnstream.codec.records import decode_parked_session
from turnstream.ports import MalformedEntry, ParkedCommand, ParkedSession, PartitionState, Quarantine
from turnstream.signals import Fenced


class MemoryQuarantine(Quarantine):
    """The parked commands and malformed entries of these partitions."""

    def __init__(self, partitions: Sequence[Partition], queue: MemoryQueue) -> None:
        """Look at these partitions; `queue` takes what is to be read again."""
        self._partitions = partitions
        self._queue = queue

    async def parked(self, partition: int) -> Mapping[str, ParkedSession]:
        """Return the registry of a partition's parked sessions."""
        return {i: decode_parked_session(record) for i, record in self._partitions[partition].parked.sessions.items()}

    async def queue(self, partition: int, session_id: str, count: int, after: str = "") -> Sequence[ParkedCommand]:
        """Return up to `count` parked commands of a session, from the head of its queue or after a command of it."""
        queue = self._partitions[partition].parked.queues.get(session_id, {})
        found = [command for place, command in queue.items() if not after or int(place) > int(after)]
        return found[:count]

    async def attempt(self, state: PartitionState, entry_id: str) -> int:
        """Note that the command after the cursor is tried alone; return the number of owners that it has crashed.

        Raises:
            Fenced: the partition has another owner.

        """
        partition = self._partitions[state.partition]
        if partition.token != state.token:
            raise Fenced(state.partition, "token")
        return partition.deaths.attempt(partition.cursor, entry_id)

    async def malformed(self, partition: int, count: int, after: str = "") -> Sequence[tuple[str, MalformedEntry]]:
        """Return up to `count` malformed entries with their ids, oldest first, after an id."""
        entries = [(kept.entry.entry_id, kept) for kept in self._partitions[partition].malformed]
        ids = [malformed_id for malformed_id, _ in entries]
        start = ids.index(after) + 1 if after in ids else 0
        return entries[start : start + count]

    async def requeue(self, partition: int, malformed_id: str) -> bool:
        """Move an entry that could not be read to the end of the command stream; False if there is no such entry.

        Raises:
            Overloaded: more commands wait there than may.

        """
        kept = self._find(partition, malformed_id)
        if kept is None:
            return False
        self._queue.check_room(partition, 1)
        self._partitions[partition].malformed.remove(kept)
        self._queue.append_raw(partition, kept.entry.fields)
        return True

    async def drop(self, partition: int, malformed_id: str) -> bool:
        """Forget an entry that could not be read; False if there is no such entry."""
        kept = self._find(partition, malformed_id)
        if kept is not None:
            self._partitions[partition].malformed.remove(kept)
        return kept is not None

    def _find(self, partition: int, malformed_id: str) -> MalformedEntry | None:
        malformed = self._partitions[partition].malformed
        return next((kept for kept in malformed if kept.entry.entry_id == malformed_id), None)
