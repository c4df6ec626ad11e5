"""Fills the buffer of a subscription with events, live or from the event logs (design §6)."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from msgspec.structs import force_setattr

from turnstream.backoff import Backoff
from turnstream.client.subscriptions.buffer import EventBuffer
from turnstream.client.subscriptions.gap_detector import EventFilter, GapDetector, before_oldest
from turnstream.client.subscriptions.pages import EVENTS_PER_PAGE, PageReader, decode_or_skip
from turnstream.client.subscriptions.resync import resync_for
from turnstream.client.subscriptions.start import Start
from turnstream.client.subscriptions.tasks import gather_all_or_cancel
from turnstream.domain.events import AnyEvent
from turnstream.domain.position import LogPosition, Position, is_reached
from turnstream.logging import get_logger
from turnstream.ports import Backend, EventPage, Subscription

log = get_logger(__name__)

HEAD_CHECK_INTERVAL_S = 5.0
"""Seconds between two checks for a lost live event that no later event has revealed."""

PAGES_AT_ONCE = 8
"""Event logs that are read concurrently."""


class EventFeed:
    """The partitions that a subscription follows, each with its gap detector, which fill its buffer.

    `receive` takes live events, `catch_up` reads the event logs of partitions that are not live, and `check_heads`
    detects live events that were lost. All three run as long as a connection lasts.
    """

    def __init__(
        self,
        backend: Backend,
        wanted: EventFilter,
        partitions: Sequence[int],
        start: Start,
        buffer: EventBuffer[Any],
    ) -> None:
        """Prepare to follow `partitions` from `start`; `buffer` takes events and `ResyncRequired`."""
        self.position: Position | None = None
        """The position after the last event taken from the buffer, and after unwanted events; `None` before `start`."""
        self._pages = PageReader(backend.events, wanted.session_id)
        self._wanted = wanted
        self._partitions = partitions
        self._start = start
        self._buffer = buffer
        self._detectors: dict[int, GapDetector] = {}
        # Partitions that could not be read yet, each with the sequence before the first live event received since.
        self._unstarted: dict[int, float] = {}
        self._log_positions: list[LogPosition | None] = [None] * backend.partitions
        self._must_read = asyncio.Event()

    async def start(self) -> None:
        """Fix the log position in each partition after which events are delivered.

        Raises:
            StoredDataInvalid: no partition can be read.
            Unavailable: the server does not answer.

        """
        if isinstance(self._start, Position):
            for number in self._partitions:
                self._follow(number, self._start.log_positions[number] or LogPosition("", 0))
        else:
            pages = await gather_all_or_cancel(self._pages.read(number, 0, 0) for number in self._partitions)
            if self._pages.failure and not any(pages):
                raise self._pages.failure
            for number, page in zip(self._partitions, pages, strict=True):
                self._start_partition(number, page)
        self.position = Position(tuple(self._log_positions))

    def has_read(self, end: Position) -> bool:
        """Return whether every event up to a position is delivered, or is not wanted."""
        return all(is_reached(self._log_positions[number], end.log_positions[number]) for number in self._partitions)

    def interrupt(self) -> None:
        """Read all event logs before the next live event, because live events may be lost."""
        for detector in self._detectors.values():
            detector.interrupt()
        self._must_read.set()

    def receive(self, payload: bytes) -> None:
        """Deliver a live event if it is the next one of its partition."""
        event = decode_or_skip(payload)
        if event is not None and event.meta and self._wanted.in_chain(event):
            number = event.meta.partition
            if number in self._unstarted:
                self._unstarted[number] = min(self._unstarted[number], event.meta.sequence - 1)
            elif detector := self._detectors.get(number):
                self._receive_event(detector, event, len(payload))

    async def catch_up(self, backoff: Backoff) -> None:
        """Read the event logs of the partitions that are not live, as far as the buffer has room.

        Args:
            backoff: that of the connection; it is reset once all partitions are read, and the recovery is logged.

        """
        while True:
            await self._pages.wait_for(self._must_read)
            self._must_read.clear()
            numbers = [n for n, each in self._detectors.items() if not (each.is_live or self._pages.is_paused(n))]
            for first in range(0, len(numbers), PAGES_AT_ONCE):
                some = numbers[first : first + PAGES_AT_ONCE]
                await self._buffer.wait_for_room(len(some))
                count = min(EVENTS_PER_PAGE, self._buffer.room_for_each(len(some)))
                await gather_all_or_cancel(self._read_page(number, count) for number in some)
                # Without a wanted event too: an iteration may end here.
                self._buffer.wake()
            if backoff.failing and not self._must_read.is_set():
                log.info("subscription resumed")
                backoff.succeeded()

    async def check_heads(self, subscription: Subscription) -> None:
        """Compare the live partitions with the heads of their event logs, every `HEAD_CHECK_INTERVAL_S`.

        The heads are read first, the PONG comes second: with the PONG, everything published before it has been
        received.
        """
        while True:
            await asyncio.sleep(HEAD_CHECK_INTERVAL_S)
            live = [number for number, detector in self._detectors.items() if detector.is_live]
            pages = await gather_all_or_cancel(self._pages.read(number, 0, 0) for number in live)
            await subscription.ping()
            for number, page in zip(live, pages, strict=True):
                detector = self._detectors[number]
                detector.check_head(page)
                self._log_positions[number] = detector.position
                if not detector.is_live:
                    self._must_read.set()
            if not self._buffer:
                # Only unwanted events came since the last one: a subscriber that resumes need not read them again.
                self.position = Position(tuple(self._log_positions))
                self._buffer.wake()

    def _start_partition(self, partition: int, page: EventPage | None) -> None:
        """Start in a partition; without a page, later, before all live events that arrive until then."""
        if page is None:
            self._unstarted[partition] = math.inf
            self._follow(partition, LogPosition("", 0))
        else:
            now = int(min(page.head, self._unstarted.pop(partition, math.inf)))
            self._follow(partition, LogPosition(page.generation, now if self._start == "now" else before_oldest(page)))

    def _follow(self, partition: int, log_position: LogPosition) -> None:
        self._detectors[partition] = GapDetector(self._wanted, log_position)
        self._log_positions[partition] = log_position

    def _receive_event(self, detector: GapDetector, event: AnyEvent, size: int) -> None:
        if detector.accept_live(event, size, room=self._buffer.has_room):
            self._deliver(detector.position, event, size)
        elif not detector.is_live:
            self._must_read.set()

    async def _read_page(self, partition: int, count: int) -> None:
        detector = self._detectors[partition]
        detector.start_page()
        after = detector.sequence
        page = await self._pages.read(partition, after, count)
        if page is None:
            return
        if partition in self._unstarted:
            self._start_partition(partition, page)
            self._must_read.set()
            return
        gap = detector.align(page)
        if gap:
            self._log_positions[partition] = detector.position
            position = Position(tuple(self._log_positions))
            self._buffer.append(resync_for(gap, partition, detector.position, position), 0)
        if detector.sequence >= after:
            self._deliver_page(partition, detector, page)
        else:
            # A rollback moved the detector back to before the page: read again from there.
            self._must_read.set()

    def _deliver_page(self, partition: int, detector: GapDetector, page: EventPage) -> None:
        for sequence, payload in page.payloads:
            event = decode_or_skip(payload)
            if event is not None and self._wanted.in_chain(event) and detector.accept_stored(event, sequence):
                self._deliver(detector.position, event, len(payload))
        detector.finish_page(page)
        self._log_positions[partition] = detector.position
        for event, size in detector.release_held():
            self._receive_event(detector, event, size)
        if not detector.is_live:
            self._must_read.set()

    def _deliver(self, log_position: LogPosition, event: AnyEvent, size: int) -> None:
        if not event.meta:
            return
        self._log_positions[event.meta.partition] = log_position
        if self._wanted.includes(event):
            # The event is frozen, but it was decoded here and nothing else refers to it yet.
            force_setattr(event.meta, "position", Position(tuple(self._log_positions)))
            self._buffer.append(event, size)
