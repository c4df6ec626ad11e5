"""The command streams (design §1, §3)."""

import asyncio
from collections.abc import Mapping, Sequence

from turnstream.adapters.memory.notifier import Notifier
from turnstream.adapters.memory.partition import Partition
from turnstream.codec.envelope import encode_entry
from turnstream.errors import Overloaded
from turnstream.ports import CommandEntry, CommandQueue, RawEntry


class MemoryQueue(CommandQueue):
    """Appends to the partitions' streams, and wakes who waits for an entry."""

    def __init__(self, partitions: Sequence[Partition], max_backlog: int) -> None:
        """Use the streams of these partitions; more than `max_backlog` commands may not wait in one."""
        self._partitions = partitions
        self._max_backlog = max_backlog
        self._notifier = Notifier()
        self._wakes = 0

    async def publish(self, partition: int, entries: Sequence[CommandEntry]) -> None:
        """Append commands to a partition's stream, in this order.

        Raises:
            Overloaded: more commands wait there than may.

        """
        # A producer that only sends waits for nothing else: the workers need a turn.
        await asyncio.sleep(0)
        self.check_room(partition, len(entries))
        stream = self._partitions[partition].commands
        for fields in [_fields(entry) for entry in entries]:
            stream.append(fields)
        self._notifier.notify()

    def check_room(self, partition: int, commands: int) -> None:
        """Raise `Overloaded` unless so many commands more may wait."""
        backlog = len(self._partitions[partition].commands)
        if backlog + commands > self._max_backlog:
            raise Overloaded(backlog, self._max_backlog)

    def append_raw(self, partition: int, fields: Mapping[bytes, bytes]) -> str:
        """Append any fields to a partition's stream and return the entry's id."""
        entry_id = self._partitions[partition].commands.append(fields)
        self._notifier.notify()
        return entry_id

    async def read(self, cursors: Mapping[int, str], count: int, block: float) -> Mapping[int, Sequence[RawEntry]]:
        """Return up to `count` entries a partition behind its cursor; wait up to `block` seconds for the first."""
        wakes = self._wakes
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(block):
                while not (found := self._behind(cursors, count)) and wakes == self._wakes:
                    await self._notifier.wait()
        except TimeoutError:
            return {}
        return found

    async def wake(self) -> None:
        """End every `read` that waits."""
        self._wakes += 1
        self._notifier.notify()

    def _behind(self, cursors: Mapping[int, str], count: int) -> dict[int, list[RawEntry]]:
        found = {number: self._partitions[number].commands.after(cursor, count) for number, cursor in cursors.items()}
        return {number: entries for number, entries in found.items() if entries}


def _fields(entry: CommandEntry) -> dict[bytes, bytes]:
    words = [word if isinstance(word, bytes) else word.encode() for word in encode_entry(entry)]
    return dict(zip(words[::2], words[1::2], strict=True))
