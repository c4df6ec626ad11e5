"""The part of a client that listens (design §6, §10)."""

import asyncio
from datetime import datetime
from typing import Any, TypeVar, overload
from weakref import WeakSet

from turnstream.client.consumers.consumer import Consumer
from turnstream.client.consumers.retry_policy import ATTEMPTS, RetryPolicy
from turnstream.client.guard import ClosableBackend
from turnstream.client.subscriptions.buffer import EventBuffer
from turnstream.client.subscriptions.gap_detector import EventFilter
from turnstream.client.subscriptions.start import Start, find_position, types_of
from turnstream.client.subscriptions.subscription import EventSubscription
from turnstream.codec.envelope import check_session_id
from turnstream.domain.events import Event
from turnstream.domain.position import Position
from turnstream.ports import Backend
from turnstream.settings import Settings

A = TypeVar("A", bound=Event)
B = TypeVar("B", bound=Event)
C = TypeVar("C", bound=Event)
D = TypeVar("D", bound=Event)


class Subscriber:
    """Makes subscriptions and consumers, and ends them with the client."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        """Listen to a deployment."""
        self._backend = backend
        self._settings = settings
        self._open = ClosableBackend(backend)
        self._subscriptions = WeakSet[EventSubscription[Any]]()
        self._consumers = WeakSet[Consumer[Any]]()

    # One overload a number of classes, because type checkers would join several into `Event`.
    @overload
    def subscribe(self, *, session_id: str | None = None, start: Start = "now") -> EventSubscription[Event]: ...

    @overload
    def subscribe(
        self, a: type[A], /, *, session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A]: ...

    @overload
    def subscribe(
        self, a: type[A], b: type[B], /, *, session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A | B]: ...

    @overload
    def subscribe(
        self, a: type[A], b: type[B], c: type[C], /, *, session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A | B | C]: ...

    @overload
    def subscribe(
        self, a: type[A], b: type[B], c: type[C], d: type[D], /, *, session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A | B | C | D]: ...

    @overload
    def subscribe(
        self, *types: type[A], session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A]: ...

    def subscribe(
        self, *types: type[Any], session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[Any]:
        """Return an async iterator of events: those of a session in their order, and nothing left out.

        Each comes once. With several types, continuing from a stored position repeats some seconds of events.

        If unseen history is gone, the iteration gives a `ResyncRequired` in its place.

        Args:
            types: the classes of event; none, or `Event`, for all.
            session_id: only events of this session.
            start: `"now"`; `"beginning"`, of what is kept; or after a stored position, `event.meta.position`.

        Raises:
            InvalidCommand: this cannot be the id of a session.
            ValueError: a type is no class of event, or the position is not one of this deployment or for these
                sessions.

        """
        self._open.check_open()
        if session_id is not None:
            check_session_id(session_id)
        buffer = EventBuffer[Any](self._settings.subscriber_buffer, self._settings.subscriber_buffer_bytes)
        subscription = EventSubscription(self._open, types, session_id, start, buffer)
        self._subscriptions.add(subscription)
        return subscription

    # As for `subscribe`.
    @overload
    def consumer(
        self, name: str, /, *, start: Start = "now", attempts: int | RetryPolicy = ATTEMPTS, session_prefix: str = ""
    ) -> Consumer[Event]: ...

    @overload
    def consumer(
        self,
        name: str,
        a: type[A],
        /,
        *,
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[A]: ...

    @overload
    def consumer(
        self,
        name: str,
        a: type[A],
        b: type[B],
        /,
        *,
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[A | B]: ...

    @overload
    def consumer(
        self,
        name: str,
        a: type[A],
        b: type[B],
        c: type[C],
        /,
        *,
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[A | B | C]: ...

    @overload
    def consumer(
        self,
        name: str,
        /,
        *types: type[A],
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[A]: ...

    def consumer(
        self,
        name: str,
        /,
        *types: type[Any],
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[Any]:
        """Return a consumer of a durable subscription; `await …run(handler)` handles its share of the events.

        Any number of consumers, in any processes, share the partitions. Each event is handled at least once, those of a
        session in their order; checkpoints are stored, so that the next consumer continues there.

        Args:
            name: up to 64 letters, digits, `_`, `.` and `-`; of the subscription: its consumers share the checkpoints.
            types: the classes of event; none, or `Event`, for all. All consumers of one name should have the same.
            start: the start of a new subscription; an existing one continues from its checkpoints.
            attempts: how often an event is tried before its session is parked, or `RetryPolicy` that say more.
            session_prefix: only sessions whose ids begin so; also the same for all consumers of one name.

        Raises:
            ValueError: one of the arguments is invalid.

        """
        self._open.check_open()
        wanted = EventFilter(types_of(types), None, session_prefix)
        retries = attempts if isinstance(attempts, RetryPolicy) else RetryPolicy(attempts=attempts)
        consumer = Consumer[Any](self._open, self._settings, name, wanted, start, retries)
        self._consumers.add(consumer)
        return consumer

    async def position(self, since: datetime | None = None) -> Position:
        """Return the place in the history that is reached now, or the one before the first event since a moment.

        An event's time is that of its command: a redriven command has older events than those around it.

        Raises:
            Unavailable: the server does not answer.

        """
        self._open.check()
        return await find_position(self._open, since)

    async def _end_consumers(self) -> None:
        await asyncio.gather(*(consumer.aclose() for consumer in list(self._consumers)))

    async def _end_subscriptions(self) -> None:
        for subscription in list(self._subscriptions):
            await subscription.aclose()
