"""Consumes one partition of a durable subscription: read a page, handle its events, store a checkpoint (design §6).

Two tasks share the work. The reader takes the events of the event log in their order. If the handler fails with one,
its session is retried separately by `SessionRetries`: later events of that session join its queue, and the reader
continues with the others. An event counts as handled for the checkpoint when the handler has returned, or when the
event is stored in its session's queue.

The reader keeps an event in its place, with the later ones waiting, only if retrying it separately would do harm:
in an outage, when so many sessions in a row have failed that each further one would fail too, and when the queues of
the partition are full.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple

from msgspec.structs import replace

from turnstream.backoff import Backoff
from turnstream.client.consumers.handler_calls import HandlerCalls, HandlerFailure, StoppedError, log_failure, wait
from turnstream.client.consumers.retry_policy import ATTEMPTS
from turnstream.client.consumers.rollback_detector import detect_rollback
from turnstream.client.consumers.session_retries import ConsumedPartition, SessionRetries
from turnstream.client.subscriptions.gap_detector import EventFilter, GapDetector
from turnstream.client.subscriptions.pages import EVENTS_PER_PAGE, decode_or_skip
from turnstream.client.subscriptions.resync import HistoryGap, position_of_one, resync_for
from turnstream.client.subscriptions.tasks import cancel_and_wait
from turnstream.domain.events import AnyEvent
from turnstream.domain.position import LogPosition
from turnstream.ports import ConsumerStore, EventLog, EventPage, FailedEvent, Failure, SubscriptionState

POLL_INTERVAL_S = 5.0
"""Seconds between two reads of an event log for which no notification has arrived."""

CHECKPOINT_INTERVAL_S = 0.5
"""Seconds between two checkpoints: after a crash, the events of so many seconds are redelivered."""


class ConsumerContext(NamedTuple):
    """The state and services that all partitions of a consumer share.

    `start_position` returns where to start in a partition that has no checkpoint. `handled` has the highest position
    that this consumer has reached, for each partition that it owns or owned.
    """

    name: str
    partitions: int
    wanted: EventFilter
    events: EventLog
    subscriptions: ConsumerStore
    calls: HandlerCalls
    start_position: Callable[[int], Awaitable[LogPosition]]
    handled: dict[int, LogPosition]


class PartitionConsumer:
    """Handles the events of a partition in their order, from its checkpoint on, until it is stopped."""

    def __init__(self, context: ConsumerContext, state: SubscriptionState) -> None:
        """Start at the checkpoint in `state`."""
        self._context = context
        self._state = state
        self._number = state.partition
        self._calls = context.calls
        self._stopped = asyncio.Event()
        partition = ConsumedPartition(context.name, context.partitions, state, context.subscriptions, context.calls)
        self._retries = SessionRetries(partition, self._stopped)
        self._wakeup = asyncio.Event()
        self._checkpoint: LogPosition | None = state.mark
        self._checkpoint_time = 0.0

    @property
    def progress(self) -> LogPosition | None:
        """The last checkpoint, by which `PartitionLeases` sees the progress of this partition."""
        return self._checkpoint

    def wake(self) -> None:
        """Read the event log, because it may have new events."""
        self._wakeup.set()

    def wake_all(self) -> None:
        """Read the event log, the retried sessions and the requests of operators."""
        self._wakeup.set()
        self._retries.wake()

    def hasten(self) -> None:
        """Try some of the retried sessions before they are due."""
        self._retries.hasten()

    def stop(self) -> None:
        """Finish the events being handled, then end `run`."""
        self._stopped.set()
        self.wake_all()

    async def run(self) -> None:
        """Handle the events that exist and those that follow, until stopped.

        Raises:
            Fenced: the partition has another owner.
            Unavailable: the server does not answer.

        """
        start = self._state.mark or await self._context.start_position(self._number)
        detector = GapDetector(self._context.wanted, start)
        await self._save(detector.position)
        await self._retries.load()
        tasks = [asyncio.create_task(task) for task in (self._read(detector), self._retries.run())]
        for task in tasks:
            # If one fails, the other finishes the event that it is handling.
            task.add_done_callback(lambda _: self.stop())
        try:
            await asyncio.wait(tasks)
        finally:
            await cancel_and_wait(tasks)
        for task in tasks:
            task.result()

    async def _read(self, detector: GapDetector) -> None:
        try:
            while not self._stopped.is_set():
                self._wakeup.clear()
                if await self._consume_page(detector):
                    await wait(self._wakeup, POLL_INTERVAL_S)
        except StoppedError:
            return

    async def _consume_page(self, detector: GapDetector) -> bool:
        """Read a page and handle its events; return whether it reaches the head of the event log."""
        after = detector.position.sequence
        page = await self._context.events.read(self._number, after, EVENTS_PER_PAGE)
        gap = detector.align(page)
        # Asked last because it is more exact: a rollback has moved the checkpoint back too.
        gap = detect_rollback(self._context.handled.get(self._number), page) or gap
        if gap:
            await self._report_gap(gap, detector.position)
        if detector.position.sequence < after:
            # A rollback moved the detector back to before the page: read again from there.
            return False
        await self._handle_page(page, detector.position)
        detector.finish_page(page)
        await self._save(detector.position)
        return detector.is_live

    async def _report_gap(self, gap: HistoryGap, resumed: LogPosition) -> None:
        """Call the handler with a `ResyncRequired`, then continue after the gap."""
        if gap.reason == "retention" and self._checkpoint:
            # A consumer that was paused may have been replaced, and the new owner may have handled the events that are
            # trimmed now. Storing the checkpoint again raises `Fenced` then, before a wrong report.
            await self._store_checkpoint(self._checkpoint)
        resync = resync_for(
            gap, self._number, resumed, position_of_one(self._number, self._context.partitions, resumed)
        )
        await self._calls.deliver_until_handled(resync, self._stopped)
        self._context.handled[self._number] = resumed
        await self._save(resumed)

    async def _handle_page(self, page: EventPage, handled: LogPosition) -> None:
        try:
            for sequence, payload in page.payloads:
                await self._handle_event(sequence, payload)
                handled = LogPosition(page.generation, sequence)
                self._remember(handled)
                await self._maybe_save(handled)
        except StoppedError:
            await self._save(handled)
            raise

    async def _handle_event(self, sequence: int, payload: bytes) -> None:
        if self._stopped.is_set():
            raise StoppedError
        event = decode_or_skip(payload)
        if event is None or not self._context.wanted.includes(event):
            return
        stored = FailedEvent(event.session_id, sequence, payload)
        if event.session_id not in self._retries or not await self._retries.append(stored):
            await self._handle_or_retry_separately(event, stored)

    async def _handle_or_retry_separately(self, event: AnyEvent, stored: FailedEvent) -> None:
        """Call the handler with an event; if it fails, retry or park its session separately.

        The event stays in its place for more attempts in an outage, and while the queues of the partition are full.
        """
        calls, clock, backoff = self._calls, asyncio.get_running_loop().time, Backoff()
        started, attempts, in_place, doublings, has_room = clock(), 0, 1, 0, True
        while not self._stopped.is_set():
            failed = await calls.attempt(event)
            if failed is None:
                return
            if not backoff.failing:
                log_failure(failed, event)
            attempts += failed.counts
            # The limits grow while others fail too, but never shrink: an event that was tried often during an outage
            # is not given up when the outage ends.
            in_place = max(in_place, calls.outages.attempts_in_place)
            doublings = max(doublings, calls.outages.doublings)
            if failed.counts and attempts >= in_place:
                is_exhausted = calls.retries.is_exhausted(attempts, timedelta(seconds=clock() - started), doublings)
                is_parked = is_exhausted or (not has_room and attempts >= ATTEMPTS << doublings)
                record = calls.failure_record(failed, attempts, doublings, is_parked=is_parked)
                if await self._retry_separately(stored, record, failed):
                    return
                has_room = False
            await wait(self._stopped, backoff.failed())
        raise StoppedError

    async def _retry_separately(self, stored: FailedEvent, record: Failure, failed: HandlerFailure) -> bool:
        """Store a failed event in the queue of its session; return False if there is no room."""
        if record.is_parked:
            self._calls.record_parked(record, failed, stored.session_id, self._number)
        event = replace(stored, reason=record.reason, attempts=record.attempts)
        if not await self._retries.start(event, record):
            return False
        self._calls.outages.session_retried()
        return True

    def _remember(self, position: LogPosition) -> None:
        """Remember how far this consumer has come; if an operator resets it, the highest position remains."""
        highest = self._context.handled.get(self._number, position)
        if position.generation != highest.generation or position.sequence >= highest.sequence:
            self._context.handled[self._number] = position

    async def _maybe_save(self, position: LogPosition) -> None:
        if asyncio.get_running_loop().time() - self._checkpoint_time > CHECKPOINT_INTERVAL_S:
            await self._save(position)

    async def _save(self, position: LogPosition) -> None:
        """Store a checkpoint, unless it is the last one."""
        if position != self._checkpoint:
            await self._store_checkpoint(position)
            self._checkpoint = self._retries.checkpoint = position
            self._remember(position)
        self._checkpoint_time = asyncio.get_running_loop().time()

    async def _store_checkpoint(self, position: LogPosition) -> None:
        await self._context.subscriptions.checkpoint(self._context.name, self._state, position)
