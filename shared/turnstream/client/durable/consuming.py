"""One partition of a durable subscription in the hands of its owner: read ▸ handle ▸ checkpoint (design §6)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from turnstream.client.durable.handling import GivenUpError, Handling, StoppedError
from turnstream.client.durable.losses import resync_of, taken_back, tell_for_certain
from turnstream.client.durable.parked import ParkedSessions
from turnstream.client.listening.following import Break, Following, Wanted
from turnstream.client.listening.resync import ResyncRequired
from turnstream.codec.events import decode_event
from turnstream.domain.events import AnyEvent
from turnstream.domain.position import Mark
from turnstream.ports import EventLog, EventPage, FailedEvent, Subscriptions, SubscriptionState
from turnstream.telemetry import get_logger

log = get_logger(__name__)

PIECE = 500
"""Events that are read from a stream at a time."""

CHECK_EVERY = 5.0
"""Seconds between two looks at a stream from which nothing was heard."""

CHECKPOINT_EVERY = 0.5
"""Seconds of handling between two checkpoints, so much comes again when a member is killed, and looks at requests."""


class Consumer(NamedTuple):
    """What all partitions of a member have in common.

    `begin` tells where to start in one that has no mark, `places` how far this member ever came in each that it had.
    """

    name: str
    partitions: int
    wanted: Wanted
    events: EventLog
    subscriptions: Subscriptions
    handling: Handling
    begin: Callable[[int], Awaitable[Mark]]
    places: dict[int, Mark]


class Consuming:
    """Handles the events of a partition in their order, from its checkpoint on, until it is stopped."""

    def __init__(self, consumer: Consumer, state: SubscriptionState) -> None:
        """Start where the partition stands."""
        self._consumer = consumer
        self._state = state
        self._stopped = asyncio.Event()
        self._parked = ParkedSessions(consumer.name, state, consumer.subscriptions, self._try, self._tell_of_lost)
        self._rung = asyncio.Event()
        self._saved: Mark | None = state.mark
        self._saved_at = 0.0

    @property
    def place(self) -> Mark | None:
        """The last checkpoint."""
        return self._saved

    def ring(self) -> None:
        """Look at the stream: something has happened."""
        self._rung.set()

    def stop(self) -> None:
        """Finish the event in hand, then end `run`."""
        self._stopped.set()
        self._rung.set()

    async def run(self) -> None:
        """Handle what is there and what comes, until stopped.

        Raises:
            Fenced: the partition has another owner.
            Unavailable: the server does not answer.

        """
        following = Following(
            self._consumer.wanted, self._state.mark or await self._consumer.begin(self._state.partition)
        )
        await self._save(following.mark)
        await self._parked.load()
        try:
            while not self._stopped.is_set():
                self._rung.clear()
                await self._parked.carry_out_requests()
                if await self._is_at_head(following):
                    await self._rest()
        except StoppedError:
            return

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            # Before Python 3.12 `wait_for` loses a cancellation that meets the bell.
            async with asyncio.timeout(CHECK_EVERY):
                await self._rung.wait()

    async def _is_at_head(self, following: Following) -> bool:
        """Handle a page of events; tell whether it was the last one for now."""
        after = following.mark[1]
        page = await self._consumer.events.read(self._state.partition, after, PIECE)
        gone = following.continue_in(page)
        gone = taken_back(self._consumer.places.get(self._state.partition), page) or gone
        if gone:
            if gone.reason == "retention" and self._saved:
                # Whoever stood still may have been replaced, and others have handled meanwhile what is gone now.
                await self._checkpoint(self._saved)
            await self._tell(gone, following.mark)
            self._consumer.places[self._state.partition] = following.mark
            await self._save(following.mark)
        if following.mark[1] < after:
            # What was read lies behind the place from which it goes on.
            return False
        await self._handle(page, following.mark)
        following.advance(page)
        await self._save(following.mark)
        return following.is_live

    def _note(self, mark: Mark) -> None:
        """Note how far this member has come; an operator may have sent it back, and what it has seen stays seen."""
        place = self._consumer.places.get(self._state.partition, mark)
        if mark[0] != place[0] or mark[1] >= place[1]:
            self._consumer.places[self._state.partition] = mark

    async def _handle(self, page: EventPage, handled: Mark) -> None:
        try:
            for sequence, payload in page.payloads:
                await self._handle_one(sequence, payload)
                handled = (page.generation, sequence)
                self._note(handled)
                await self._look_up_now_and_then(handled)
        except StoppedError:
            await self._save(handled)
            raise

    async def _handle_one(self, sequence: int, payload: bytes) -> None:
        if self._stopped.is_set():
            raise StoppedError
        event = _decoded(payload)
        if event is None or not self._consumer.wanted.includes(event):
            return
        if event.session_id in self._parked:
            await self._parked.add(FailedEvent(event.session_id, sequence, payload))
            return
        try:
            await self._try(event)
        except GivenUpError as failure:
            failed = FailedEvent(event.session_id, sequence, payload, failure.reason, failure.attempts)
            await self._parked.add(failed, failure)

    async def _try(self, event: AnyEvent | ResyncRequired) -> None:
        await self._consumer.handling.handle(event, self._stopped)

    async def _tell(self, gone: Break, resumed: Mark, session_id: str | None = None) -> None:
        resync = resync_of(gone, self._state.partition, self._consumer.partitions, resumed, session_id)
        await tell_for_certain(self._consumer.handling, resync, self._stopped)

    async def _tell_of_lost(self, session_id: str, lost: int) -> None:
        mark = self._saved or ("", 0)
        await self._tell(Break("parking", lost, mark), mark, session_id)

    async def _look_up_now_and_then(self, mark: Mark) -> None:
        if asyncio.get_running_loop().time() - self._saved_at > CHECKPOINT_EVERY:
            await self._save(mark)
            # An operator does not wait until slow handlers are through with a page.
            await self._parked.carry_out_requests()

    async def _save(self, mark: Mark) -> None:
        if mark != self._saved:
            await self._checkpoint(mark)
            self._saved = mark
            self._note(mark)
        self._saved_at = asyncio.get_running_loop().time()

    async def _checkpoint(self, mark: Mark) -> None:
        await self._consumer.subscriptions.checkpoint(self._consumer.name, self._state, mark)


def _decoded(payload: bytes) -> AnyEvent | None:
    try:
        return decode_event(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.warning("event cannot be read", size=len(payload))
        return None
