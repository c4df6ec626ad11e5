"""Publish and subscribe inside one process (design §6)."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from turnstream.adapters.memory.notifier import Notifier
from turnstream.domain.events import EVENTS
from turnstream.errors import Unavailable
from turnstream.ports import Channels, Subscription

MAX_WAITING = 100_000
"""Payloads that may wait in a subscription; one that falls further behind is lost, as a server would disconnect it."""

_CLIENT_ID = r"[A-Za-z0-9_-]{1,64}"


def event_channel(event_type: str) -> str:
    """Return the channel of all events of a type."""
    return f"ts:events:{event_type}"


def session_channel(session_id: str) -> str:
    """Return the channel of a session's events."""
    return f"ts:session:{session_id}"


class MemorySubscription(Subscription):
    """The payloads of some channels, from its making on."""

    def __init__(self, detach: Callable[["MemorySubscription"], None]) -> None:
        """Take what stops the delivery."""
        self._detach = detach
        self._waiting: deque[tuple[str, bytes] | asyncio.Event] = deque()
        self._notifier = Notifier()
        self._lost = False

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (channel, payload).

        Raises:
            Unavailable: more payloads waited than may.

        """
        while not self._notifier.closed:
            if self._waiting:
                first = self._waiting.popleft()
                if isinstance(first, asyncio.Event):
                    first.set()
                else:
                    yield first
            elif self._lost:
                raise Unavailable(f"The subscription was lost: {MAX_WAITING} payloads waited in it")
            else:
                await self._notifier.wait()

    async def consume(self, callback: Callable[[bytes], None]) -> None:
        """Give each payload to `callback`.

        Raises:
            Unavailable: more payloads waited than may.

        """
        async for _, payload in self:
            callback(payload)

    async def ping(self) -> None:
        """Return after everything published before has been taken out."""
        taken_out = asyncio.Event()
        self._waiting.append(taken_out)
        self._notifier.notify()
        await taken_out.wait()

    async def aclose(self) -> None:
        """End it."""
        self._detach(self)
        self._notifier.close()

    def deliver(self, channel: str, payload: bytes) -> None:
        """Add a payload; a subscription with too many unread payloads is ended."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((channel, payload))
        else:
            self._lost = True
            self._detach(self)
        self._notifier.notify()


class MemoryChannels(Channels):
    """Channels by exact name; a payload without a subscription is dropped."""

    def __init__(self) -> None:
        """Start without listeners."""
        self._listeners: dict[str, list[MemorySubscription]] = {}

    def reply_channel(self, partition: int, client_id: str) -> str:
        """Return the channel on which a client gets its replies from a partition."""
        return f"ts:{partition}:reply:{client_id}"

    def loss_channel(self, partition: int) -> str:
        """Return the channel that tells of commands that were taken from a partition before they were applied."""
        return f"ts:{partition}:lost"

    def is_reply_channel(self, partition: int, channel: str) -> bool:
        """Return whether a channel is for replies from this partition."""
        return re.fullmatch(self.reply_channel(partition, _CLIENT_ID), channel) is not None

    def event_channels(self, types: Sequence[str], session_id: str | None) -> list[str]:
        """Return the channels that carry these types of event (none: all), or the events of one session."""
        if session_id is not None:
            return [session_channel(session_id)]
        return [event_channel(name) for name in types or EVENTS]

    async def grouped(self, channels: Sequence[str]) -> list[list[str]]:
        """Return one group: all is lost with this process."""
        return [list(channels)]

    async def subscribe(self, channels: Sequence[str]) -> MemorySubscription:
        """Listen; on return nothing published from now on is missed."""
        names = frozenset(channels)
        subscription = MemorySubscription(partial(self._detach, names))
        for name in names:
            self._listeners.setdefault(name, []).append(subscription)
        return subscription

    def publish(self, channel: str, payload: bytes) -> None:
        """Hand a payload to all who listen now."""
        for subscription in tuple(self._listeners.get(channel, ())):
            subscription.deliver(channel, payload)

    async def aclose(self) -> None:
        """End all subscriptions."""
        for subscription in {one for listeners in self._listeners.values() for one in listeners}:
            await subscription.aclose()

    def _detach(self, channels: frozenset[str], subscription: MemorySubscription) -> None:
        for channel in channels:
            left = [other for other in self._listeners.pop(channel, ()) if other is not subscription]
            if left:
                self._listeners[channel] = left
