"""One partition in the hands of its owner: entries wait in an inbox, a task applies them batch after batch."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from turnstream.application.processor import PartitionProcessor
from turnstream.backoff import Backoff
from turnstream.domain.command_specs import FREEING
from turnstream.errors import ServerFull
from turnstream.logging import get_logger, where_of
from turnstream.ports import PartitionState, RawEntry
from turnstream.signals import BatchRefused

log = get_logger(__name__)


class BatchLimits:
    """How much is applied in one step, and how much may wait in memory for it."""

    def __init__(self, commands: int, size: int) -> None:
        """Bound a batch by its commands and by their bytes."""
        self.commands = commands
        self.size = size


class PartitionWorker:
    """Applies the entries of one partition in batches; read entries wait in its inbox for the previous batch."""

    def __init__(self, processor: PartitionProcessor, limits: BatchLimits) -> None:
        """Start after the processor's cursor."""
        self.position = processor.state.cursor
        self._processor = processor
        self._limits = limits
        self._inbox: deque[RawEntry] = deque()
        self._applying: Sequence[RawEntry] = ()
        self._arrived = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopping = False
        self._backoff = Backoff()

    @property
    def state(self) -> PartitionState:
        """The state of the partition."""
        return self._processor.state

    @property
    def progress(self) -> str:
        """The id of the last entry that is applied."""
        return self._processor.state.cursor

    @property
    def has_room(self) -> bool:
        """Return whether more entries may be read: one batch waits at most while another is applied."""
        return len(self._inbox) < self._limits.commands and not self._stopping

    @property
    def in_flight(self) -> list[str]:
        """The ids of the entries that were read and are not applied, in their order; perhaps of some that just were."""
        return [entry.entry_id for entry in (*self._applying, *self._inbox)]

    def feed(self, position: str, entries: Sequence[RawEntry]) -> None:
        """Take entries that were read after a position; entries of an outdated read are dropped."""
        if entries and position == self.position:
            self._inbox.extend(entries)
            self.position = entries[-1].entry_id
            self._arrived.set()

    def stop(self) -> None:
        """Finish the batch in flight, then end `run`."""
        self._stopping = True
        self._processor.stop()
        self._stopped.set()
        self._arrived.set()

    async def run(self) -> None:
        """Apply what arrives until stopped.

        Raises:
            Fenced: the partition has another owner.
            Unavailable: the result of a batch is unknown.

        A full server is waited for.

        """
        while not self._stopping:
            await self._arrived.wait()
            if self._inbox and not self._stopping:
                self._applying = self._batch()
                await self._apply(self._applying)
                self._applying = ()
            if not self._inbox and not self._stopping:
                self._arrived.clear()

    async def _apply(self, entries: Sequence[RawEntry]) -> None:
        """Apply a batch. If the partition cannot be written, not even to park a command, retry until it can."""
        while entries and not self._stopping:
            try:
                await self._processor.process(entries)
            except BatchRefused as error:
                await self._wait(error, error.reason)
                entries = _behind(self.state.cursor, entries)
            except ServerFull as error:
                entries = await self._relieved(_behind(self.state.cursor, entries), error)
            else:
                if self._backoff.failing:
                    log.warning("partition can be written again")
                self._backoff.succeeded()
                return

    async def _relieved(self, entries: Sequence[RawEntry], full: ServerFull) -> Sequence[RawEntry]:
        """On a full server, apply a batch that ends with what only frees memory, or wait; return what is left.

        The entries before it in the stream are applied with it, so the memory limit is exceeded by one batch at most.
        """
        entries = self._batch(entries) if entries else ()
        freeing = next((n for n in range(len(entries), 0, -1) if _frees(entries[n - 1])), 0)
        try:
            if freeing:
                await self._processor.process(entries[:freeing], frees=True)
        except BatchRefused as error:
            await self._wait(error, error.reason)
        else:
            if not freeing:
                await self._wait(full, str(full))
        return _behind(self.state.cursor, entries)

    async def _wait(self, error: Exception, reason: str) -> None:
        """Log once why the partition is stuck, and let time pass."""
        if not self._backoff.failing:
            # Without a traceback: it may quote a message's content.
            log.error("partition cannot be written", reason=reason, where=where_of(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), self._backoff.failed())

    def _batch(self, begun: Sequence[RawEntry] = ()) -> list[RawEntry]:
        """Take the entries that fit into a batch with those begun; at least one entry."""
        batch = [*begun] or [self._inbox.popleft()]
        size = sum(map(entry_size, batch))
        while self._inbox and len(batch) < self._limits.commands:
            size += entry_size(self._inbox[0])
            if size > self._limits.size:
                break
            batch.append(self._inbox.popleft())
        return batch


def entry_size(entry: RawEntry) -> int:
    """Return the bytes of an entry's payload."""
    return len(entry.fields.get(b"data", b""))


def _frees(entry: RawEntry) -> bool:
    return entry.fields.get(b"type", b"").decode(errors="replace") in FREEING


def _behind(cursor: str, entries: Sequence[RawEntry]) -> Sequence[RawEntry]:
    """Return the entries that are not applied yet."""
    applied = next((n for n, entry in enumerate(entries, start=1) if entry.entry_id == cursor), 0)
    return entries[applied:]
