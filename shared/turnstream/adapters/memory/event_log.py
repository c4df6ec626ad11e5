"""Reading the events of the past, and where a partition's stream stands (design §6)."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from turnstream.adapters.memory.partition import Partition, StoredEvent
from turnstream.codec.records import decode_type_sequences
from turnstream.ports import EventPage

PAGE_BYTES = 1024 * 1024
"""Bytes of payloads at which a page ends: nothing needs that here, but who reads should see it happen."""


class MemoryEventLog:
    """The events of these partitions; their history is never another one's."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        """Read these partitions."""
        self._partitions = partitions

    async def read(self, partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        """Return up to `count` events behind a sequence (0: none, only how things stand), all of one moment."""
        # Who reads page after page waits for nothing else: others need a turn.
        await asyncio.sleep(0)
        stored = self._partitions[partition]
        session = stored.sessions.get(session_id) if session_id is not None else None
        oldest = stored.events[0].sequence if stored.events else stored.sequence + 1
        # Sequences have no gaps, so a place in the stream can be computed.
        behind = islice(stored.events, max(after + 1 - oldest, 0), None)
        return EventPage(
            generation=stored.generation if stored.token else "",
            former=(),
            oldest=oldest,
            head=stored.sequence,
            types=decode_type_sequences(stored.type_sequences),
            session=session.decoded_header().last_sequence if session else 0,
            payloads=tuple(_page(islice(behind, count))),
        )

    async def written_before(self, partition: int, moment: datetime) -> int:
        """Return a sequence up to which all events were written before a moment; 0 where nothing is known of that."""
        # The marks are of another clock, which nobody sets.
        by_then = time.monotonic() - (time.time() - moment.timestamp())
        return max((last for at, last in self._partitions[partition].marks if at < by_then), default=0)


def _page(events: Iterable[StoredEvent]) -> Iterator[tuple[int, bytes]]:
    room = PAGE_BYTES
    for event in events:
        yield event.sequence, event.payload
        room -= len(event.payload)
        if room <= 0:
            return
