"""`ts.consumer(name, …).run(handler)`: a consumer of a durable subscription (design §6)."""

import asyncio
import os
import re
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Generic

from turnstream.client.consumers.handler_calls import HandlerCalls
from turnstream.client.consumers.partition_consumer import ConsumerContext, PartitionConsumer
from turnstream.client.consumers.retry_policy import RetryPolicy
from turnstream.client.consumers.rollback_detector import RollbackDetector
from turnstream.client.guard import CLOSED, ClosableBackend
from turnstream.client.subscriptions.gap_detector import EventFilter
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.client.subscriptions.start import Start, checked_start
from turnstream.client.subscriptions.subscription import SomeEvent
from turnstream.codec.events import decode_place
from turnstream.domain.position import LogPosition, Position
from turnstream.errors import Unavailable
from turnstream.logging import bound, get_logger
from turnstream.ports import SUBSCRIPTION_NAME, SubscriptionState
from turnstream.settings import Settings
from turnstream.worker.member import Member

log = get_logger(__name__)

UNKNOWN_POSITION = LogPosition("unknown", 0)
"""A position in no history: a consumer that starts there reports a reset."""

_current_consumer: ContextVar[object] = ContextVar("turnstream_within", default=None)
"""The consumer whose handler is running."""


def is_handler() -> bool:
    """Return whether the caller is the handler of a durable subscription, in any task or thread of it."""
    return _current_consumer.get() is not None


class Consumer(Generic[SomeEvent]):
    """A consumer of a durable subscription; all its consumers share the partitions and resume at their checkpoints.

    Each event is handled at least once, those of a session in their order. When the handler returns, the event is
    acknowledged. When the handler raises, the event is redelivered after a pause; until it succeeds, its session is
    retried separately and the events of other sessions continue. A session that reaches the limits of its retries is
    parked: its events wait for an operator.
    """

    def __init__(
        self,
        client: ClosableBackend,
        settings: Settings,
        name: str,
        wanted: EventFilter,
        start: Start,
        retries: RetryPolicy,
    ) -> None:
        """Prepare to handle the wanted events; a new subscription begins at `start`.

        Raises:
            ValueError: the name is not allowed, or `start` does not fit this deployment.

        """
        if not re.fullmatch(SUBSCRIPTION_NAME, name):
            raise ValueError(f"{name[:80]!r} is not a name for a subscription: it has to match {SUBSCRIPTION_NAME}")
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
        self._handled: dict[int, LogPosition] = {}
        self._checkpoints_lost = False
        self._member: Member[SubscriptionState, PartitionConsumer] | None = None

    async def run(self, handler: Callable[[SomeEvent | ResyncRequired], Awaitable[None]]) -> None:
        """Handle this consumer's share of the events until it is stopped or cancelled; reconnect if the server is away.

        `handler` is called with one event of a session at a time, but concurrently for several sessions: those of
        several partitions, and in each partition one session of the stream and some that are retried separately.
        Returning acknowledges the event; after an exception it is redelivered. `NotHandled` gives the reason, and
        whether the attempt counts.

        Raises:
            RuntimeError: it is running already.
            Unavailable: its client is closed.
            OpenedElsewhere: this is not the event loop of its client.
            ConfigurationError: the server does not grant a permission that is needed.

        """
        self._home.check()
        if self._closed:
            raise Unavailable(CLOSED)
        if self._member is not None:
            raise RuntimeError(f"The subscription {self.name!r} is running already: use another one for each consumer")
        calls = HandlerCalls(handler, self._retries)
        self._member = self._new_member(calls)
        if self._stopping:
            self._member.stop()
        self._ended.clear()
        token = _current_consumer.set(self)
        with bound(subscription=self.name, member=self.member_id):
            log.info("subscription started", partitions=self._backend.partitions)
            try:
                await self._share(self._member, calls)
            finally:
                self._member = None
                self._ended.set()
                log.info("subscription stopped")
                _current_consumer.reset(token)

    def stop(self) -> None:
        """Finish the events being handled, store the checkpoints, release the partitions and end `run`."""
        self._stopping = True
        if self._member:
            self._member.stop()

    def hasten(self) -> None:
        """Try retried sessions before they are due, because the cause of their failure may be gone.

        Some sessions of each partition of this consumer are tried, and more after each that succeeds. Parked sessions
        are included if `RetryPolicy.parked_every` is given.
        """
        for consumer in self._partition_consumers():
            consumer.hasten()

    async def aclose(self) -> None:
        """Stop for good and return when `run` has ended; called from its own handler it returns at once.

        Waiting there would be a deadlock.
        """
        self._home.check()
        self._closed = True
        self.stop()
        if _current_consumer.get() is not self:
            await self._ended.wait()

    def _new_member(self, calls: HandlerCalls) -> Member[SubscriptionState, PartitionConsumer]:
        context = ConsumerContext(
            name=self.name,
            partitions=self._backend.partitions,
            wanted=self._wanted,
            events=self._backend.events,
            subscriptions=self._backend.subscriptions,
            calls=calls,
            start_position=self._start_position,
            handled=self._handled,
        )
        return Member(
            self.member_id,
            self._backend.partitions,
            self._backend.subscriptions.membership(self.name),
            lambda state: self._partition_consumer(context, state),
            self._lease,
        )

    async def _share(self, member: Member[SubscriptionState, PartitionConsumer], calls: HandlerCalls) -> None:
        """Work on this consumer's share of the partitions until it is stopped."""
        rollbacks = RollbackDetector(self._backend.partitions, self._handled, self._backend.events, calls)
        async with member.joined():
            member.start("listening for events", self._listen)
            member.start("detecting rollbacks", partial(self._detect_rollbacks, rollbacks, member))
            member.start("looking for requests", partial(self._wake_when_notified, member))
            await member.share()

    def _partition_consumer(self, context: ConsumerContext, state: SubscriptionState) -> PartitionConsumer:
        # All partitions that are taken together pass here before the first of them calls `_start_position`.
        if state.mark is None and state.partition in self._handled:
            self._checkpoints_lost = True
        return PartitionConsumer(context, state)

    async def _start_position(self, partition: int) -> LogPosition:
        """Return where to start in a partition without a checkpoint: it is new, or its checkpoint was flushed.

        A flush removes checkpoints and events together. A consumer then resumes at the position it remembers and
        reports a reset. In a partition that it never owned it reports a reset too, because it is known that there were
        checkpoints.
        """
        if self._checkpoints_lost:
            return self._handled.get(partition, UNKNOWN_POSITION)
        if isinstance(self._start, Position):
            # `checked_start` has made sure that there is one.
            return self._start.log_positions[partition] or UNKNOWN_POSITION
        page = await self._backend.events.read(partition, 0, 0)
        return LogPosition(page.generation, page.head if self._start == "now" else page.oldest - 1)

    async def _listen(self) -> None:
        """Wake the consumers of partitions that have new wanted events: live events are only notifications here."""
        channels = self._backend.channels
        subscription = await channels.subscribe(channels.event_channels(sorted(self._wanted.types), None))
        try:
            # Events from before the subscription are in the event log.
            self._wake_all()
            await subscription.consume(self._wake)
        finally:
            await subscription.aclose()

    async def _wake_when_notified(self, member: Member[SubscriptionState, PartitionConsumer]) -> None:
        """Wake all partitions after a notification: a request of an operator may be waiting."""
        while not member.stopping:
            await member.notified.wait()
            member.notified.clear()
            self._wake_all()

    def _wake(self, payload: bytes) -> None:
        place = decode_place(payload)
        if place and self._member and (not self._wanted.types or place.type in self._wanted.types):
            consumer = self._member.owned.get(place.partition)
            if consumer:
                consumer.wake()

    def _wake_all(self) -> None:
        for consumer in self._partition_consumers():
            consumer.wake_all()

    async def _detect_rollbacks(
        self, rollbacks: RollbackDetector, member: Member[SubscriptionState, PartitionConsumer]
    ) -> None:
        await asyncio.sleep(self._lease)
        await rollbacks.check(member.owned)

    def _partition_consumers(self) -> list[PartitionConsumer]:
        return list(self._member.owned.values()) if self._member else []
