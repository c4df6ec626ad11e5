"""`ts.subscribe(…)`: an async iterator of events without gaps (design §6, §10)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, Self, TypeVar

from turnstream.client.guard import ClosableBackend
from turnstream.client.subscriptions.buffer import EventBuffer
from turnstream.client.subscriptions.feed import EventFeed
from turnstream.client.subscriptions.gap_detector import EventFilter
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.client.subscriptions.start import Start, checked_start, types_of
from turnstream.client.subscriptions.supervisor import SubscriptionSupervisor, failure_of
from turnstream.client.subscriptions.tasks import cancel_and_wait
from turnstream.domain.events import Event
from turnstream.domain.models import partition_of
from turnstream.domain.position import LogPosition, Position, is_reached
from turnstream.errors import Unavailable

SomeEvent = TypeVar("SomeEvent", bound=Event, covariant=True)


class EventSubscription(Generic[SomeEvent]):
    """An async iterator of events, live from entering `async with`, or from the first step of a bare `async for`.

    Each wanted event is delivered once, those of a session in their order. After a lost connection the subscription
    reconnects and reads the events that it missed from the event logs. It does the same when the consumer is so slow
    that the buffer is full. A `ResyncRequired` takes the place of events that the event logs no longer have.
    """

    def __init__(
        self,
        client: ClosableBackend,
        types: tuple[type[SomeEvent], ...],
        session_id: str | None,
        start: Start,
        buffer: EventBuffer[SomeEvent | ResyncRequired],
    ) -> None:
        """Prepare to deliver events of these classes (if empty: all), of one session or of all, into `buffer`.

        Raises:
            ValueError: a type is not a class of events, or the position to start from does not fit this deployment or
                this subscription.

        """
        backend = client.backend
        wanted = EventFilter(types_of(types), session_id)
        own = range(backend.partitions) if session_id is None else (partition_of(session_id, backend.partitions),)
        self._home = client.home
        self._buffer = buffer
        self._feed = EventFeed(backend, wanted, own, checked_start(start, own, backend.partitions), buffer)
        self._supervisor = SubscriptionSupervisor(backend.channels, wanted, self._feed)
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        """Connect; events from now on are delivered.

        Raises:
            Unavailable: the server does not answer.
            OpenedElsewhere: this is not the event loop of its client.

        """
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the subscription."""
        await self.aclose()

    async def aclose(self) -> None:
        """Disconnect; the iteration ends after the events that have arrived."""
        self._home.check()
        self._closed = True
        if self._task:
            await cancel_and_wait([self._task])
        await self._supervisor.aclose()

    @property
    def position(self) -> Position | None:
        """The position after the last event that the iteration returned, and after unwanted events that followed it.

        With several types it may be before events that were returned, because an event of another type may still be
        missing there. `None` before the subscription is open.
        """
        return self._feed.position

    async def ping(self) -> None:
        """Return when the server has answered on this subscription's connection.

        Everything that the server published before the answer has been received then.

        Raises:
            Unavailable: the subscription is not open, the connection was lost, or the server does not answer.

        """
        self._home.check()
        await self._supervisor.ping()

    async def until(self, end: Position) -> AsyncIterator[SomeEvent | ResyncRequired]:
        """Yield the events up to a position, and end when everything before it has been read.

        Live events after the position are skipped: close the subscription, or start another one there.

        Args:
            end: as `ts.position()` returned it.

        Example:
            `async for event in events.until(await ts.position()):` reads the past events, and does not wait for new
            ones.

        Raises:
            Unavailable: the subscription is not open yet, and the server does not answer.

        """
        await self._open()
        while self._buffer or not self._feed.has_read(end):
            if self._buffer:
                event = await anext(self)
                if isinstance(event, ResyncRequired) or _is_up_to(event, end):
                    yield event
            elif self._task is None or self._task.done():
                if failure := failure_of(self._task):
                    raise failure
                return
            else:
                await self._buffer.wait_for_change()

    def __aiter__(self) -> Self:
        """Return the subscription."""
        return self

    async def __anext__(self) -> SomeEvent | ResyncRequired:
        """Return the next event.

        Raises:
            Unavailable: the subscription is not open yet, and the server does not answer.

        """
        await self._open()
        while not self._buffer:
            if self._task is None or self._task.done():
                raise failure_of(self._task) or StopAsyncIteration
            await self._buffer.wait_for_change()
        event = self._buffer.popleft()
        source = event if isinstance(event, ResyncRequired) else event.meta
        self._feed.position = source.position if source else None
        return event

    async def _open(self) -> None:
        self._home.check()
        if self._task is not None or self._closed:
            return
        async with self._opening:
            try:
                await self._connect_and_start()
            except Unavailable:
                # Closing the client closes the connections that this waits for: then the iteration just ends.
                if not self._closed:
                    raise

    async def _connect_and_start(self) -> None:
        if self._task is not None:
            return
        # Connect first: an event after the start position is then either received or in the event log.
        connection = await self._supervisor.connect()
        try:
            await self._feed.start()
        except BaseException:
            await self._supervisor.aclose()
            raise
        if self._closed:
            # `aclose` was called since `connect` and did not wait for this.
            await self._supervisor.aclose()
            return
        self._task = asyncio.create_task(self._supervisor.run(connection), name="subscription")
        self._task.add_done_callback(lambda _: self._buffer.wake())


def _is_up_to(event: Event, end: Position) -> bool:
    """Return whether an event is not after a position."""
    meta = event.meta
    return meta is None or is_reached(end.log_positions[meta.partition], LogPosition(meta.generation, meta.sequence))
