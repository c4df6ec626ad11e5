"""Live events for subscribers: by class, or of one session (design §10)."""

import asyncio
from collections import deque
from typing import Generic, Self, TypeVar, cast

import msgspec

from turnstream.codec.events import decode_event
from turnstream.domain.events import AnyEvent, Event
from turnstream.errors import Unavailable
from turnstream.ports import Channels, Subscription
from turnstream.telemetry import get_logger

log = get_logger(__name__)
SomeEvent = TypeVar("SomeEvent", bound=Event, covariant=True)


class EventSubscription(Generic[SomeEvent]):
    """An async iterator of events, live from entering `async with`, or from the first step of a bare `async for`.

    Live events are a doorbell: what happens while nobody listens is not repeated. A lost connection, or a consumer so
    slow that the buffer fills, raises `Unavailable`; nothing is skipped in silence.
    """

    def __init__(
        self, channels: Channels, types: tuple[type[SomeEvent], ...], session_id: str | None, buffer: int
    ) -> None:
        """Listen for these classes (none: all), of one session or of all; hold up to `buffer` events."""
        self._channels = channels
        self._types = types
        self._session_id = session_id
        self._buffer = buffer
        self._events: deque[SomeEvent] = deque()
        self._arrived = asyncio.Event()
        self._failure: Unavailable | None = None
        self._subscription: Subscription | None = None
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Listen; what happens from now on is seen."""
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.aclose()

    async def aclose(self) -> None:
        """Stop to listen; the iteration ends."""
        if self._subscription:
            await self._subscription.aclose()
        if self._pump:
            await self._pump

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> SomeEvent:
        """Return the next event.

        Raises:
            Unavailable: the connection was lost, or the buffer was full.

        """
        await self._open()
        while not self._events:
            if self._pump is None or self._pump.done():
                raise self._failure or StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    async def _open(self) -> None:
        if self._pump is None:
            channels = self._channels.event_channels([event.type for event in self._types], self._session_id)
            self._subscription = await self._channels.subscribe(channels)
            self._pump = asyncio.create_task(self._fill(self._subscription), name="subscription")
            self._pump.add_done_callback(lambda _: self._arrived.set())

    async def _fill(self, subscription: Subscription) -> None:
        try:
            async for _, payload in subscription:
                event = _decoded(payload)
                if event is None or not self._wants(event):
                    continue
                if len(self._events) >= self._buffer:
                    too_slow = f"{self._buffer} events wait: the subscriber is too slow, or buffers too little"
                    self._failure = Unavailable(too_slow)
                    return
                self._events.append(cast("SomeEvent", event))
                self._arrived.set()
        except Unavailable as error:
            self._failure = error
        finally:
            await subscription.aclose()

    def _wants(self, event: AnyEvent) -> bool:
        """Tell whether an event was asked for: channels may carry others, too."""
        if self._session_id is not None and event.session_id != self._session_id:
            return False
        return not self._types or isinstance(event, self._types)


def _decoded(payload: bytes) -> AnyEvent | None:
    """Return the event of a payload; what is none is passed over, for anybody may publish."""
    try:
        return decode_event(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.warning("event cannot be read", size=len(payload))
        return None
