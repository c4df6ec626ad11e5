"""Reading the event streams of several partitions, each for itself: one that cannot be read holds up no other."""

import asyncio
from contextlib import suppress

import msgspec

from turnstream.backoff import LONGEST, Faults
from turnstream.codec.events import decode_event
from turnstream.domain.events import AnyEvent
from turnstream.errors import StoredDataInvalid
from turnstream.ports import EventLog, EventPage
from turnstream.telemetry import get_logger

log = get_logger(__name__)


class Pages:
    """Pages of the events of one session, or of all: then a partition that cannot be read is left out for a while."""

    def __init__(self, events: EventLog, session_id: str | None) -> None:
        """Read from here."""
        self.failure: StoredDataInvalid | None = None
        """Why a partition was left out last."""
        self._events = events
        self._session_id = session_id
        self._faults: Faults[int] = Faults()

    async def tried_again_or(self, event: asyncio.Event) -> None:
        """Wait for an event, but only for a while where a partition is left out."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST if self._faults else None):
                await event.wait()

    def rests(self, partition: int) -> bool:
        """Tell whether a partition is to be left alone now."""
        return self._faults.rests(partition)

    async def read(self, partition: int, after: int, count: int) -> EventPage | None:
        """Return up to `count` events behind a sequence; `None` where the partition cannot be read, which is said once.

        Raises:
            StoredDataInvalid: the one session that is asked for cannot be read.
            Unavailable: the server does not answer.

        """
        try:
            page = await self._events.read(partition, after, count, self._session_id)
        except StoredDataInvalid as failure:
            if self._session_id is not None:
                raise
            self.failure = failure
            if self._faults.failed(partition, str(failure)):
                log.warning("events of a partition cannot be read", partition=partition, error=str(failure))
            return None
        if self._faults.over(partition):
            log.info("events of a partition can be read again", partition=partition)
        return page


def decoded(payload: bytes) -> AnyEvent | None:
    """Return the event of a payload; what is none is passed over, for anybody may publish."""
    try:
        return decode_event(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.warning("event cannot be read", size=len(payload))
        return None
