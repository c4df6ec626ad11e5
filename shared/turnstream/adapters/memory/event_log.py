"""Reads past events and the state of a partition's event log (design §6)."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from turnstream.adapters.memory.partition import Partition, StoredEvent
from turnstream.codec.records import decode_type_sequences
from turnstream.ports import EventLog, EventPage

PAGE_BYTES = 1024 * 1024
"""Bytes of payloads at which a page ends, as on a server, so that tests of readers see short pages."""


class MemoryEventLog(EventLog):
    """The event log in memory; a partition always keeps its generation."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        """Read these partitions."""
        self._partitions = partitions

    async def read(self, partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        """Return up to `count` events after a sequence, as of one point in time; with 0 only the log's state."""
        # A reader of many pages never waits for anything else, so other tasks get their turn here.
        await asyncio.sleep(0)
        stored = self._partitions[partition]
        session = stored.sessions.get(session_id) if session_id is not None else None
        oldest = stored.events[0].sequence if stored.events else stored.sequence + 1
        # Sequences have no gaps, so an index in the stream can be computed.
        later = islice(stored.events, max(after + 1 - oldest, 0), None)
        return EventPage(
            generation=stored.generation if stored.token else "",
            former=(),
            oldest=oldest,
            head=stored.sequence,
            types=decode_type_sequences(stored.type_sequences),
            session=session.decoded_header().last_sequence if session else 0,
            payloads=tuple(_page(islice(later, count))),
        )

    async def written_before(self, partition: int, moment: datetime) -> int:
        """Return a sequence up to which all events were written before a time; 0 if none is known."""
        # The marks have times of the monotonic clock.
        by_then = time.monotonic() - (time.time() - moment.timestamp())
        return max((last for at, last in self._partitions[partition].marks if at < by_then), default=0)


def _page(events: Iterable[StoredEvent]) -> Iterator[tuple[int, bytes]]:
    room = PAGE_BYTES
    for event in events:
        yield event.sequence, event.payload
        room -= len(event.payload)
        if room <= 0:
            return
