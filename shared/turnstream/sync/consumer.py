"""Durable subscriptions of the client without asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Generic

from turnstream.client.admin.consumers import ConsumerAdmin as AsyncConsumerAdmin
from turnstream.client.admin.consumers import ParkedSession, PartitionLag, SubscriptionInfo
from turnstream.client.consumers.consumer import Consumer as AsyncConsumer
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.client.subscriptions.start import Start
from turnstream.client.subscriptions.subscription import SomeEvent
from turnstream.sync.portal import Portal, Value
from turnstream.sync.sessions import some

MOST_THREADS = 10_000
"""Threads of one subscription: no separate limit, because the subscription limits the events in flight."""


class Consumer(Generic[SomeEvent]):
    """A member of a named subscription; its handler is an ordinary function, called in threads."""

    def __init__(self, portal: Portal, subscription: AsyncConsumer[SomeEvent]) -> None:
        """Hold a member of the client of asyncio."""
        self._portal = portal
        self._subscription = subscription

    def run(self, handler: Callable[[SomeEvent | ResyncRequired], None]) -> None:
        """Handle this member's share of the events until `stop` is called by another thread or by the handler.

        `handler` is called with one event of a session at a time, in several threads with those of several sessions:
        of several partitions, and of each one of the stream and some of sessions that failed before. The threads are
        the subscription, one for each event in flight. Returning acknowledges the
        event, raising has it redelivered; `NotHandled` gives a reason, and whether it counts.

        Raises:
            RuntimeError: it runs already.
            ConfigurationError: the server does not permit what is needed.

        """
        threads = ThreadPoolExecutor(MOST_THREADS, f"turnstream-{self._subscription.name}")

        async def handle(event: SomeEvent | ResyncRequired) -> None:
            await _in_thread(threads, partial(handler, event))

        async def running() -> None:
            try:
                await self._subscription.run(handle)
            finally:
                threads.shutdown(wait=False)

        self._portal.call(running())

    def stop(self) -> None:
        """Finish the events in flight, write the checkpoints, hand the partitions over and end `run`."""

        async def stop() -> None:
            self._subscription.stop()

        self._portal.call(stop())


async def _in_thread(threads: Executor, work: Callable[[], None]) -> None:
    """Run a function in a thread. A cancelled call waits for the thread if it has begun: it cannot be stopped."""
    begins = Future[None]()

    def begin() -> None:
        if begins.set_running_or_notify_cancel():
            work()

    call = asyncio.get_running_loop().run_in_executor(threads, copy_context().run, begin)
    cancelled = False
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError:
            cancelled = True
            if begins.cancel():
                call.cancel()
    if cancelled:
        raise asyncio.CancelledError from None if call.cancelled() else call.exception()
    await call


class ConsumerAdmin:
    """The durable subscriptions of a deployment, for operators."""

    def __init__(self, portal: Portal, administration: AsyncConsumerAdmin) -> None:
        """Hand calls over."""
        self._portal = portal
        self._administration = administration

    def list(self) -> Iterator[SubscriptionInfo]:
        """Yield all subscriptions, by name."""
        yield from self._iterate(self._administration.list())

    def lag(self, name: str) -> Iterator[PartitionLag]:
        """Yield the lag of a subscription in each partition."""
        yield from self._iterate(self._administration.lag(name))

    def reset(self, name: str, start: Start | datetime) -> None:
        """Set the position from which a subscription continues: `"now"`, `"beginning"`, a position or a time."""
        self._portal.call(self._administration.reset(name, start))

    def parked(self, name: str) -> Iterator[ParkedSession]:
        """Yield the parked sessions of a subscription, the one that waits for longest first."""
        yield from self._iterate(self._administration.parked(name))

    def redrive(self, name: str, session_id: str, *, timeout: float = 30.0) -> int:
        """Have the events of a parked session handled again, in order; return how many are left."""
        return self._portal.call(self._administration.redrive(name, session_id, timeout=timeout))

    def discard(self, name: str, session_id: str, *, timeout: float = 30.0) -> int:
        """Drop the events of a parked session unhandled; return how many are left."""
        return self._portal.call(self._administration.discard(name, session_id, timeout=timeout))

    def forget(self, name: str) -> None:
        """Forget a subscription, its checkpoints and its parked events."""
        self._portal.call(self._administration.forget(name))

    def _iterate(self, infos: AsyncIterator[Value]) -> Iterator[Value]:
        while found := self._portal.call(some(infos)):
            yield from found
