"""Reads the command streams of all owned partitions, never more than can be held (design §3, a round is bounded)."""

import asyncio
from collections.abc import Container, Iterable, Mapping, Sequence

from turnstream.ports import CommandQueue, RawEntry
from turnstream.worker.partition_worker import PartitionWorker, entry_size

ROUND_ENTRIES = 4_096
ROUND_BYTES = 16 * 1024 * 1024
"""The limit of one read, over all partitions."""

BLOCK = 1.0
"""Seconds that a read waits for the first command."""

SHORT_BLOCK = 0.005
"""Seconds that a read waits while a partition is left out of it: its inbox is full, or it is not its turn."""

TURNS = 2
"""Turns of the event loop in which a batch that was fed is decided and its commit written."""


class ReadSize:
    """How many entries a partition to ask for: COUNT is per stream, so it follows what the reads before brought."""

    def __init__(self, most: int) -> None:
        """Ask for up to `most` entries."""
        self._most = most
        self._count = most
        self._entry_bytes = 1.0

    def count(self, partitions: int) -> int:
        """Return the entries to ask of each of so many partitions."""
        by_bytes = int(ROUND_BYTES / (self._entry_bytes * partitions))
        return max(1, min(self._count, by_bytes))

    def saw(self, answer: Mapping[int, Sequence[RawEntry]]) -> None:
        """Learn from a read."""
        brought = sum(map(len, answer.values()))
        if brought > ROUND_ENTRIES:
            self._count = max(1, self._count // 2)
        elif brought < ROUND_ENTRIES // 4:
            self._count = min(self._most, self._count * 2)
        samples = [entry_size(entries[-1]) for entries in answer.values()]
        if samples:
            self._entry_bytes += (max(samples) + 1 - self._entry_bytes) / 2


class FairScheduler:
    """Which partitions are read together: those that have more waiting than a read brings take turns.

    A read then brings large batches to a few partitions, and not small ones to all: the fixed cost of a batch is spread
    over more commands. Partitions without a backlog are part of every read.
    """

    def __init__(self) -> None:
        """Start without a backlog."""
        self._behind: dict[int, None] = {}

    def left_out(self, partitions: Container[int], at_once: int) -> list[int]:
        """Return the partitions to skip in the next read: all but `at_once` of those with a backlog."""
        return [number for number in self._behind if number in partitions][at_once:]

    def saw(self, asked: Iterable[int], answer: Mapping[int, Sequence[RawEntry]], count: int) -> None:
        """Learn which ones have more than the `count` entries that they were asked for; these go to the end."""
        if self._behind:
            for number in (*asked, *answer):
                self._behind.pop(number, None)
        self._behind.update((number, None) for number, entries in answer.items() if len(entries) >= count)


class StreamFeeder:
    """One loop that feeds all owned partitions."""

    def __init__(self, queue: CommandQueue, owned: Mapping[int, PartitionWorker], batch_commands: int) -> None:
        """Read for the partitions in `owned`, which its owner changes; call `wake` when it does."""
        self._queue = queue
        self._owned = owned
        self._size = ReadSize(batch_commands)
        self._turns = FairScheduler()
        self._cursors: dict[int, str] = {}
        self._changed = asyncio.Event()
        self._stopping = False

    async def wake(self) -> None:
        """Make the loop look at what is owned now."""
        self._changed.set()
        await self._queue.wake()

    def stop(self) -> None:
        """End the loop; cancel it as well, for it may wait; as a library may swallow that, both are needed."""
        self._stopping = True

    async def run(self) -> None:
        """Read and feed until stopped.

        Raises:
            Unavailable: the server does not answer.

        """
        while not self._stopping:
            # Per command a look at each partition would cost more than all else here. Also one that is lost without a
            # word, and one whose inbox was full, is a difference.
            if self._changed.is_set() or self._cursors.keys() != self._owned.keys():
                self._changed.clear()
                self._cursors = {number: owned.position for number, owned in self._owned.items() if owned.has_room}
            if self._cursors:
                await self._round(self._cursors)
            elif self._owned:
                await asyncio.sleep(SHORT_BLOCK)
            else:
                await self._changed.wait()

    async def _round(self, cursors: dict[int, str]) -> None:
        left_out = self._turns.left_out(cursors, max(1, ROUND_ENTRIES // self._size.count(1)))
        chosen = {n: c for n, c in cursors.items() if n not in left_out} if left_out else cursors
        # Skipped partitions must not wait because the chosen ones have no more entries.
        block = BLOCK if len(chosen) == len(self._owned) else SHORT_BLOCK
        count = self._size.count(len(chosen))
        answer = await self._queue.read(chosen, count, block)
        for number, entries in answer.items():
            owned = self._owned.get(number)
            if owned:
                owned.feed(cursors[number], entries)
            if owned and owned.has_room:
                cursors[number] = owned.position
            else:
                del cursors[number]
        # Those that were fed go first.
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._size.saw(answer)
        self._turns.saw(chosen, answer, count)
