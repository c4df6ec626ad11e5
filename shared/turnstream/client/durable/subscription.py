"""`ts.subscription(name, …).run(handler)`: a share of a named subscription's work (design §6)."""

import asyncio
import os
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Container
from contextvars import ContextVar
from functools import partial
from typing import Generic, cast

import structlog

from turnstream.client.closing import CLOSED, UntilClosed
from turnstream.client.durable.consuming import Consumer, Consuming
from turnstream.client.durable.handling import Handling
from turnstream.client.durable.losses import Losses
from turnstream.client.durable.retries import Retries
from turnstream.client.listening.choosing import Start, checked_start
from turnstream.client.listening.following import Wanted
from turnstream.client.listening.resync import ResyncRequired
from turnstream.client.listening.subscription import SomeEvent
from turnstream.codec.events import decode_place
from turnstream.domain.position import Mark, Position
from turnstream.errors import Unavailable
from turnstream.ports import SUBSCRIPTION_NAME, SubscriptionState
from turnstream.settings import Settings
from turnstream.telemetry import get_logger
from turnstream.worker.member import Member

log = get_logger(__name__)

UNKNOWN: Mark = ("unknown", 0)
"""A place in no history: whoever goes on from there is told of a reset."""

_within: ContextVar[object] = ContextVar("turnstream_within", default=None)
"""The member whose handler is at work here."""


def is_handler() -> bool:
    """Tell whether this is called by the handler of a durable subscription, in whatever task or thread."""
    return _within.get() is not None


class DurableSubscription(Generic[SomeEvent]):
    """A member of a named subscription; all members share the partitions, and go on where the one before stopped.

    Each event is handled at least once, those of a session in their order. A handler that returns has acknowledged; one
    that raises gets the event again, after a while; its session is set aside until then, and those of other sessions go
    on. Where that does not help, the session is parked: its events wait for an operator.
    """

    def __init__(
        self,
        client: UntilClosed,
        settings: Settings,
        name: str,
        wanted: Wanted,
        start: Start,
        retries: Retries,
    ) -> None:
        """Handle the events that are wanted.

        Raises:
            ValueError: the name or the start is none.

        """
        if not re.fullmatch(SUBSCRIPTION_NAME, name):
            raise ValueError(f"A subscription is called {SUBSCRIPTION_NAME}, not {name[:80]!r}")
        self.name = name
        self.member_id = f"{settings.worker_id or f'{socket.gethostname()}-{os.getpid()}'}:{secrets.token_hex(3)}"
        self._home = client.home
        self._backend = backend = client.backend
        self._lease = settings.lease
        self._wanted = wanted
        self._start = checked_start(start, range(backend.partitions), backend.partitions)
        self._retries = retries
        self._stopping = False
        self._closed = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._places: dict[int, Mark] = {}
        self._lost_marks = False
        self._member: Member[SubscriptionState, Consuming] | None = None

    async def run(self, handler: Callable[[SomeEvent | ResyncRequired], Awaitable[None]]) -> None:
        """Handle this member's share of the events until stopped or cancelled; a server that goes away is waited for.

        `handler` is called with one event of a session at a time, but with those of several sessions concurrently: of
        several partitions, and of each one of the stream and some of sessions that are set aside.
        To return is to acknowledge, to raise is to have it come again; `NotHandled` says why, and whether that counts.

        Raises:
            RuntimeError: it runs already.
            Unavailable: its client is closed.
            OpenedElsewhere: this is not the event loop of its client.
            ConfigurationError: the server does not permit what is needed.

        """
        self._home.check()
        if self._closed:
            raise Unavailable(CLOSED)
        if self._member is not None:
            raise RuntimeError(f"The subscription {self.name!r} runs already: make another one for another member")
        consumer = self._consumer(handler)
        losses = Losses(self._backend.partitions, self._places, self._backend.events, consumer.handling, self._held)
        self._member = Member(
            self.member_id,
            self._backend.partitions,
            self._backend.subscriptions.membership(self.name),
            lambda state: self._hold(consumer, state),
            self._lease,
        )
        if self._stopping:
            self._member.stop()
        self._ended.clear()
        within = _within.set(self)
        with structlog.contextvars.bound_contextvars(subscription=self.name, member=self.member_id):
            log.info("subscription started", partitions=self._backend.partitions)
            try:
                loops: dict[str, Callable[[], Awaitable[None]]] = {
                    "listening for events": self._hear,
                    "looking for losses": partial(self._look, losses),
                }
                await self._member.run(loops, changed=self._ring_all)
            finally:
                self._member = None
                self._ended.set()
                log.info("subscription stopped")
                _within.reset(within)

    def stop(self) -> None:
        """Finish the events in hand, write down how far it is, hand the partitions over and end `run`."""
        self._stopping = True
        if self._member:
            self._member.stop()

    def hasten(self) -> None:
        """Try sessions that are set aside before they are due: what they wait for may be well again.

        Some of each partition of this member are tried, and some more with each that is handled, also parked ones if
        `Retries.parked_every` is given.
        """
        for consuming in list(self._member.owned.values()) if self._member else ():
            consuming.hasten()

    async def aclose(self) -> None:
        """Stop for good, and return when `run` has ended; its own handler does not wait, for that would be for ever."""
        self._home.check()
        self._closed = True
        self.stop()
        if _within.get() is not self:
            await self._ended.wait()

    def _consumer(self, handler: Callable[[SomeEvent | ResyncRequired], Awaitable[None]]) -> Consumer:
        return Consumer(
            name=self.name,
            partitions=self._backend.partitions,
            wanted=self._wanted,
            events=self._backend.events,
            subscriptions=self._backend.subscriptions,
            handling=Handling(handler, self._retries),
            begin=self._begin,
            places=self._places,
        )

    def _hold(self, consumer: Consumer, state: SubscriptionState) -> Consuming:
        # All that are taken together are held before the first of them asks where to begin.
        if state.mark is None and state.partition in self._places:
            self._lost_marks = True
        return Consuming(consumer, state)

    async def _begin(self, partition: int) -> Mark:
        """Return where the subscription starts in a partition that nobody has handled yet, or whose mark was flushed.

        A flush takes marks and events together: who knows where it was goes on from there, and is told of the reset;
        so is one who was elsewhere, for it is known that there were marks.
        """
        if self._lost_marks:
            return self._places.get(partition, UNKNOWN)
        if isinstance(self._start, Position):
            # That there is one was checked.
            return cast("Mark", self._start.marks[partition])
        page = await self._backend.events.read(partition, 0, 0)
        return page.generation, page.head if self._start == "now" else page.oldest - 1

    async def _hear(self) -> None:
        """Ring for the partitions in which something wanted happens: live events are a doorbell here."""
        channels = self._backend.channels
        subscription = await channels.subscribe(channels.event_channels(sorted(self._wanted.types), None))
        try:
            # What happened while nobody listened is there to be read.
            self._ring_all()
            await subscription.hear(self._ring_for)
        finally:
            await subscription.aclose()

    def _ring_for(self, payload: bytes) -> None:
        place = decode_place(payload)
        if place and self._member and (not self._wanted.types or place.type in self._wanted.types):
            consuming = self._member.owned.get(place.partition)
            if consuming:
                consuming.ring()

    async def _look(self, losses: Losses) -> None:
        await asyncio.sleep(self._lease)
        await losses.look()

    def _held(self) -> Container[int]:
        return self._member.owned if self._member else ()

    def _ring_all(self) -> None:
        for consuming in list(self._member.owned.values()) if self._member else ():
            consuming.look()
