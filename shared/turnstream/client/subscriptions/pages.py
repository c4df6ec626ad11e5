"""Reads pages of several event logs; a partition that cannot be read does not stop the others (design §6)."""

import asyncio
from contextlib import suppress

import msgspec

from turnstream.backoff import LONGEST, Faults
from turnstream.codec.events import decode_event
from turnstream.domain.events import AnyEvent
from turnstream.errors import StoredDataInvalid
from turnstream.logging import get_logger
from turnstream.ports import EventLog, EventPage

log = get_logger(__name__)

EVENTS_PER_PAGE = 500
"""Events that one call reads from an event log."""


class PageReader:
    """Reads the events of one session or of all. Of all, a partition with invalid data is paused and read later."""

    def __init__(self, events: EventLog, session_id: str | None) -> None:
        """Read from these event logs."""
        self.failure: StoredDataInvalid | None = None
        """The last reason to pause a partition."""
        self._events = events
        self._session_id = session_id
        self._faults: Faults[int] = Faults()

    async def wait_for(self, event: asyncio.Event) -> None:
        """Wait for an event; while a partition is paused, for `LONGEST` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST if self._faults else None):
                await event.wait()

    def is_paused(self, partition: int) -> bool:
        """Return whether a partition is not to be read yet, because the last attempt failed."""
        return self._faults.is_paused(partition)

    async def read(self, partition: int, after: int, count: int) -> EventPage | None:
        """Return up to `count` events after a sequence; `None` if the partition cannot be read, which is logged once.

        Raises:
            StoredDataInvalid: the only session that was asked for cannot be read.
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
        if self._faults.clear(partition):
            log.info("events of a partition can be read again", partition=partition)
        return page


def decode_or_skip(payload: bytes) -> AnyEvent | None:
    """Return the event of a payload, `None` if it is not a known event: other programs may publish here too."""
    try:
        return decode_event(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.warning("event cannot be read", size=len(payload))
        return None
