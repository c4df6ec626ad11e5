"""One partition of a durable subscription in the hands of its owner: read ▸ handle ▸ checkpoint (design §6)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from turnstream.backoff import Backoff
from turnstream.client.durable.aside import Partition, SessionsAside
from turnstream.client.durable.handling import Handling, Refusal, StoppedError, tell, wait
from turnstream.client.durable.losses import resync_of, taken_back
from turnstream.client.durable.retries import ATTEMPTS
from turnstream.client.listening.following import Break, Following, Wanted
from turnstream.client.listening.together import ended
from turnstream.codec.events import decode_event
from turnstream.domain.events import AnyEvent
from turnstream.domain.position import Mark
from turnstream.ports import EventLog, EventPage, FailedEvent, Failure, Subscriptions, SubscriptionState
from turnstream.telemetry import get_logger

log = get_logger(__name__)

PIECE = 500
"""Events that are read from a stream at a time."""

CHECK_EVERY = 5.0
"""Seconds between two looks at a stream from which nothing was heard."""

CHECKPOINT_EVERY = 0.5
"""Seconds of handling between two checkpoints: so much comes again when a member is killed."""


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
    """Handles the events of a partition in their order, from its checkpoint on, until it is stopped.

    A session of which one fails is set aside: it is tried again beside the others, which go on.
    """

    def __init__(self, consumer: Consumer, state: SubscriptionState) -> None:
        """Start where the partition stands."""
        self._consumer = consumer
        self._state = state
        self._stopped = asyncio.Event()
        partition = Partition(
            *(consumer.name, consumer.partitions, state, consumer.subscriptions, consumer.handling, self._last_mark)
        )
        self._aside = SessionsAside(partition, self._stopped)
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

    def look(self) -> None:
        """Look at the stream and at what operators ask for."""
        self._rung.set()
        self._aside.ring()

    def hasten(self) -> None:
        """Try some of the sessions that are set aside before they are due."""
        self._aside.hasten()

    def stop(self) -> None:
        """Finish the events in hand, then end `run`."""
        self._stopped.set()
        self.look()

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
        await self._aside.load()
        works = [asyncio.create_task(work) for work in (self._follow(following), self._aside.run())]
        for work in works:
            # Where one fails, the other finishes what it has in hand.
            work.add_done_callback(lambda _: self.stop())
        try:
            await asyncio.wait(works)
        finally:
            await ended(works)
        for work in works:
            work.result()

    async def _follow(self, following: Following) -> None:
        try:
            while not self._stopped.is_set():
                self._rung.clear()
                if await self._is_at_head(following):
                    await wait(self._rung, CHECK_EVERY)
        except StoppedError:
            return

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
                await self._save_now_and_then(handled)
        except StoppedError:
            await self._save(handled)
            raise

    async def _handle_one(self, sequence: int, payload: bytes) -> None:
        if self._stopped.is_set():
            raise StoppedError
        event = _decoded(payload)
        if event is None or not self._consumer.wanted.includes(event):
            return
        waiting = FailedEvent(event.session_id, sequence, payload)
        if event.session_id not in self._aside or not await self._aside.add(waiting):
            await self._handle_or_set_aside(event, waiting)

    async def _handle_or_set_aside(self, event: AnyEvent, waiting: FailedEvent) -> None:
        """Have an event handled, or set its session aside: at once, unless nothing succeeds or there is no room."""
        handling, clock, backoff = self._consumer.handling, asyncio.get_running_loop().time, Backoff()
        began, attempts, patience, doublings, has_room = clock(), 0, 1, 0, True
        while not self._stopped.is_set():
            refusal = await handling.attempt(event)
            if refusal is None:
                return
            if not backoff.failing:
                tell(refusal, event)
            attempts += refusal.counts
            # Others may have failed meanwhile. They never shrink: what was tried often while nothing succeeded is not
            # given up at once when something does.
            patience, doublings = max(patience, handling.fortune.patience), max(doublings, handling.fortune.doublings)
            if refusal.counts and attempts >= patience:
                tried = handling.retries.are_over(attempts, timedelta(seconds=clock() - began), doublings)
                is_over = tried or (not has_room and attempts >= ATTEMPTS << doublings)
                failure = handling.failure(refusal, attempts, doublings, is_parked=is_over)
                if await self._set_aside(waiting, failure, refusal):
                    return
                has_room = False
            await wait(self._stopped, backoff.failed())
        raise StoppedError

    async def _set_aside(self, waiting: FailedEvent, failure: Failure, refusal: Refusal) -> bool:
        handling = self._consumer.handling
        if failure.is_parked:
            handling.tell_of_parking(failure, refusal, waiting.session_id, self._state.partition)
        event = replace(waiting, reason=failure.reason, attempts=failure.attempts)
        if not await self._aside.begin(event, failure):
            return False
        handling.fortune.set_aside()
        return True

    async def _tell(self, gone: Break, resumed: Mark) -> None:
        resync = resync_of(gone, self._state.partition, self._consumer.partitions, resumed, None)
        await self._consumer.handling.attempt_until_handled(resync, self._stopped)

    def _last_mark(self) -> Mark:
        return self._saved or ("", 0)

    async def _save_now_and_then(self, mark: Mark) -> None:
        if asyncio.get_running_loop().time() - self._saved_at > CHECKPOINT_EVERY:
            await self._save(mark)

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
