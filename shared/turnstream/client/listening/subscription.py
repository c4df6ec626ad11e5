"""Events for subscribers, live and from the stream, without a gap (design §6, §10)."""

import asyncio
import math
from collections.abc import Sequence
from typing import Generic, Self, TypeVar, cast

from msgspec.structs import force_setattr

from turnstream.application.routing import partition_of
from turnstream.backoff import Backoff
from turnstream.client.closing import UntilClosed
from turnstream.client.listening.buffer import Buffer
from turnstream.client.listening.choosing import Start, checked_start, types_of
from turnstream.client.listening.following import Break, Following, Wanted, beginning
from turnstream.client.listening.pages import Pages, decoded
from turnstream.client.listening.resync import ResyncRequired
from turnstream.client.listening.together import ended, together
from turnstream.domain.events import AnyEvent, Event
from turnstream.domain.position import Mark, Position
from turnstream.errors import Unavailable
from turnstream.ports import EventPage, Subscription
from turnstream.telemetry import get_logger

log = get_logger(__name__)
SomeEvent = TypeVar("SomeEvent", bound=Event, covariant=True)

CHECK_EVERY = 5.0
"""Seconds between two looks whether a live event was missed that nothing has followed."""

PIECE = 500
"""Events that are read from a stream at a time."""

TOGETHER = 8
"""Streams that are read at the same time."""


class EventSubscription(Generic[SomeEvent]):
    """An async iterator of events, live from entering `async with`, or from the first step of a bare `async for`.

    Each event that was asked for comes once, those of a session in their order. A lost connection is opened again, and
    what happened meanwhile is read from the event streams, as it is for a consumer so slow that the buffer fills. Where
    the streams do not reach back far enough, or the server has lost history, a `ResyncRequired` says so in its place.
    """

    def __init__(
        self,
        client: UntilClosed,
        types: tuple[type[SomeEvent], ...],
        session_id: str | None,
        start: Start,
        buffer: Buffer[SomeEvent | ResyncRequired],
    ) -> None:
        """Listen for these classes (none: all), of one session or of all; `buffer` holds what waits.

        Raises:
            ValueError: a type is no class of event, or the position to start from does not fit this deployment or this
                subscription.

        """
        self._home = client.home
        self._backend = backend = client.backend
        self._wanted = Wanted(types_of(types), session_id)
        self._pages = Pages(backend.events, session_id)
        own = range(backend.partitions) if session_id is None else (partition_of(session_id, backend.partitions),)
        self._numbers: Sequence[int] = own
        self._start = checked_start(start, own, backend.partitions)
        self._followed: dict[int, Following] = {}
        self._unstarted: dict[int, float] = {}
        self._marks: list[Mark | None] = [None] * backend.partitions
        self._position: Position | None = None
        self._waiting = buffer
        self._arrived = asyncio.Event()
        self._behind = asyncio.Event()
        self._opening = asyncio.Lock()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        """Listen; what happens from now on is seen.

        Raises:
            Unavailable: the server does not answer.
            OpenedElsewhere: this is not the event loop of its client.

        """
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.aclose()

    async def aclose(self) -> None:
        """Stop to listen; the iteration ends behind what has arrived."""
        self._home.check()
        self._closed = True
        if self._task:
            await ended([self._task])
        if self._subscription:
            await self._subscription.aclose()

    @property
    def position(self) -> Position | None:
        """The place behind the last event that the iteration gave, and behind all that was not asked for before it.

        Of several types it may lie before events that were given, where one may be missing. `None` before it is open.
        """
        return self._position

    async def ping(self) -> None:
        """Return when the server has answered on this subscription's connection, behind all that it published before.

        Raises:
            Unavailable: it is not open, the connection was lost, or the server does not answer.

        """
        self._home.check()
        if self._subscription is None:
            raise Unavailable("The subscription is not open")
        await self._subscription.ping()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> SomeEvent | ResyncRequired:
        """Return the next event.

        Raises:
            Unavailable: it is not open yet, and the server does not answer.

        """
        await self._open()
        while not self._waiting:
            if self._task is None or self._task.done():
                raise _failure_of(self._task) or StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        event = self._waiting.popleft()
        told = event if isinstance(event, ResyncRequired) else event.meta
        self._position = told.position if told else None
        return event

    async def _open(self) -> None:
        self._home.check()
        if self._task is not None or self._closed:
            return
        async with self._opening:
            try:
                await self._open_first()
            except Unavailable:
                # Whoever closes the client takes away the connections that this waits for: it ends, as when it is open.
                if not self._closed:
                    raise

    async def _open_first(self) -> None:
        if self._task is not None:
            return
        self._subscription = await self._subscribed()
        try:
            await self._begin()
        except BaseException:
            await self._subscription.aclose()
            raise
        if self._closed:
            # Whoever closed it meanwhile did not wait.
            await self._subscription.aclose()
            return
        self._task = asyncio.create_task(self._run(self._subscription), name="subscription")
        self._task.add_done_callback(lambda _: self._arrived.set())

    async def _subscribed(self) -> Subscription:
        channels = self._backend.channels
        return await channels.subscribe(channels.event_channels(sorted(self._wanted.types), self._wanted.session_id))

    async def _begin(self) -> None:
        """Fix the position from which it goes on."""
        if isinstance(self._start, Position):
            for number in self._numbers:
                self._follow(number, cast("Mark", self._start.marks[number]))
        else:
            pages = await together(self._pages.read(number, 0, 0) for number in self._numbers)
            if self._pages.failure and not any(pages):
                raise self._pages.failure
            for number, page in zip(self._numbers, pages, strict=True):
                self._start_in(number, page)
        self._position = Position(tuple(self._marks))

    def _start_in(self, partition: int, page: EventPage | None) -> None:
        """Start where a partition stands; where that cannot be read, when it can be, before all that was heard."""
        if page is None:
            self._unstarted[partition] = math.inf
            self._follow(partition, ("", 0))
        else:
            now = int(min(page.head, self._unstarted.pop(partition, math.inf)))
            self._follow(partition, (page.generation, now if self._start == "now" else beginning(page)))

    def _follow(self, partition: int, mark: Mark) -> None:
        self._followed[partition] = Following(self._wanted, mark)
        self._marks[partition] = mark

    async def _run(self, subscription: Subscription) -> None:
        """Listen until closed; a lost connection is opened again, and the streams tell what was missed."""
        backoff = Backoff()
        while True:
            try:
                await self._listen(subscription, backoff)
            except Unavailable as error:
                if not backoff.failing:
                    log.warning("subscription interrupted", error=str(error))
            subscription = self._subscription = await self._subscribed_again(backoff)

    async def _subscribed_again(self, backoff: Backoff) -> Subscription:
        while True:
            await asyncio.sleep(backoff.failed())
            try:
                return await self._subscribed()
            except Unavailable:
                continue

    async def _listen(self, subscription: Subscription, backoff: Backoff) -> None:
        """Take what is heard and what is read.

        Raises:
            Unavailable: the connection was lost.

        """
        for followed in self._followed.values():
            followed.interrupt()
        self._behind.set()
        # No task group: before Python 3.13 one that fails leaves its own task marked as being cancelled.
        parts = (self._hear(subscription), self._catch_up(backoff), self._check(subscription))
        tasks = [asyncio.create_task(part, name="subscription") for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended(tasks)
            await subscription.aclose()
        # A bug before a lost connection, which may follow from it.
        raise min(filter(None, map(_failure_of, tasks)), key=lambda failure: isinstance(failure, Unavailable))

    async def _hear(self, subscription: Subscription) -> None:
        await subscription.hear(self._hear_payload)
        raise Unavailable("The subscription was closed")

    def _hear_payload(self, payload: bytes) -> None:
        event = decoded(payload)
        if event is not None and event.meta and self._wanted.concerns(event):
            number = event.meta.partition
            if number in self._unstarted:
                self._unstarted[number] = min(self._unstarted[number], event.meta.sequence - 1)
            elif followed := self._followed.get(number):
                self._heard(followed, event, len(payload))

    def _heard(self, followed: Following, event: AnyEvent, size: int) -> None:
        if followed.hear(event, size, room=self._waiting.has_room):
            self._append(followed.mark, event, size)
        elif not followed.is_live:
            self._behind.set()

    async def _catch_up(self, backoff: Backoff) -> None:
        """Read the streams of those that are not live, as far as there is room."""
        while True:
            await self._pages.tried_again_or(self._behind)
            self._behind.clear()
            behind = [n for n, followed in self._followed.items() if not (followed.is_live or self._pages.rests(n))]
            for start in range(0, len(behind), TOGETHER):
                some = behind[start : start + TOGETHER]
                await self._waiting.until_room(len(some))
                count = min(PIECE, self._waiting.room_for(len(some)))
                await together(self._catch_up_with(number, count) for number in some)
            if backoff.failing and not self._behind.is_set():
                log.info("subscription goes on")
                backoff.succeeded()

    async def _catch_up_with(self, partition: int, count: int) -> None:
        followed = self._followed[partition]
        followed.reading()
        after = followed.behind
        page = await self._pages.read(partition, after, count)
        if page is None:
            return
        if partition in self._unstarted:
            self._start_in(partition, page)
            self._behind.set()
            return
        gone = followed.continue_in(page)
        if gone:
            self._tell(partition, followed, gone)
        if followed.behind >= after:
            self._take(partition, followed, page)
        else:
            # What was read lies behind the place from which it goes on.
            self._behind.set()

    def _take(self, partition: int, followed: Following, page: EventPage) -> None:
        for sequence, payload in page.payloads:
            event = decoded(payload)
            if event is not None and self._wanted.concerns(event) and followed.take(event, sequence):
                self._append(followed.mark, event, len(payload))
        followed.advance(page)
        self._marks[partition] = followed.mark
        for event, size in followed.held():
            self._heard(followed, event, size)
        if not followed.is_live:
            self._behind.set()

    def _append(self, mark: Mark, event: AnyEvent, size: int) -> None:
        if not event.meta:
            return
        self._marks[event.meta.partition] = mark
        if self._wanted.includes(event):
            # Nobody else has seen this object yet.
            force_setattr(event.meta, "position", Position(tuple(self._marks)))
            self._waiting.append(cast("SomeEvent", event), size)
            self._arrived.set()

    def _tell(self, partition: int, followed: Following, gone: Break) -> None:
        self._marks[partition] = followed.mark
        resync = ResyncRequired(
            partition=partition,
            reason=gone.reason,
            lost=gone.lost,
            seen=gone.seen,
            resumed=followed.mark,
            position=Position(tuple(self._marks)),
        )
        log.warning("history is gone", partition=partition, reason=gone.reason, lost=gone.lost)
        self._waiting.append(resync, 0)
        self._arrived.set()

    async def _check(self, subscription: Subscription) -> None:
        """Look at the heads; whatever was published before is heard, when what is asked behind it is answered."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            live = [number for number, followed in self._followed.items() if followed.is_live]
            pages = await together(self._pages.read(number, 0, 0) for number in live)
            await subscription.ping()
            for number, page in zip(live, pages, strict=True):
                followed = self._followed[number]
                followed.check(page)
                self._marks[number] = followed.mark
                if not followed.is_live:
                    self._behind.set()
            if not self._waiting:
                self._position = Position(tuple(self._marks))


def _failure_of(task: asyncio.Task[None] | None) -> BaseException | None:
    return None if task is None or task.cancelled() else task.exception()
