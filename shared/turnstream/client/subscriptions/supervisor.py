"""Keeps a subscription connected to the server (design §6, §10)."""

import asyncio
from typing import Any

from turnstream.backoff import Backoff
from turnstream.client.subscriptions.feed import EventFeed
from turnstream.client.subscriptions.gap_detector import EventFilter
from turnstream.client.subscriptions.tasks import cancel_and_wait
from turnstream.errors import Unavailable
from turnstream.logging import get_logger
from turnstream.ports import Channels, Subscription

log = get_logger(__name__)


class SubscriptionSupervisor:
    """Runs an event feed on one pub/sub connection after the other, until it is cancelled."""

    def __init__(self, channels: Channels, wanted: EventFilter, feed: EventFeed) -> None:
        """Prepare to receive the wanted events; `connect` opens the first connection."""
        self._channels = channels
        self._wanted = wanted
        self._feed = feed
        self._connection: Subscription | None = None

    async def connect(self) -> Subscription:
        """Open a connection that receives the wanted events from now on.

        Raises:
            Unavailable: the server does not answer.

        """
        names = self._channels.event_channels(sorted(self._wanted.types), self._wanted.session_id)
        self._connection = await self._channels.subscribe(names)
        return self._connection

    async def ping(self) -> None:
        """Return when the server has answered on the current connection.

        Raises:
            Unavailable: there is no connection, or the server does not answer on it.

        """
        if self._connection is None:
            raise Unavailable("The subscription is not open")
        await self._connection.ping()

    async def aclose(self) -> None:
        """Close the current connection."""
        if self._connection:
            await self._connection.aclose()

    async def run(self, connection: Subscription) -> None:
        """Run the feed on a connection; reconnect whenever it is lost. The event logs then show the missed events."""
        backoff = Backoff()
        while True:
            try:
                await self._run_feed(connection, backoff)
            except Unavailable as error:
                if not backoff.failing:
                    log.warning("subscription interrupted", error=str(error))
            connection = await self._reconnect(backoff)

    async def _reconnect(self, backoff: Backoff) -> Subscription:
        while True:
            await asyncio.sleep(backoff.failed())
            try:
                return await self.connect()
            except Unavailable:
                continue

    async def _run_feed(self, connection: Subscription, backoff: Backoff) -> None:
        """Receive, catch up and check heads until one of them fails, then close the connection.

        Raises:
            Unavailable: the connection was lost.

        """
        self._feed.interrupt()
        # No task group: before Python 3.13 one that fails leaves the task that runs it marked as being cancelled.
        parts = (self._receive(connection), self._feed.catch_up(backoff), self._feed.check_heads(connection))
        tasks = [asyncio.create_task(part, name="subscription") for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(tasks)
            await connection.aclose()
        # Several may have failed. A bug is more important than the lost connection that it may have caused.
        raise min(filter(None, map(failure_of, tasks)), key=lambda failure: isinstance(failure, Unavailable))

    async def _receive(self, connection: Subscription) -> None:
        await connection.consume(self._feed.receive)
        raise Unavailable("The subscription was closed")


def failure_of(task: asyncio.Task[Any] | None) -> BaseException | None:
    """Return the error with which a task has ended; `None` for a cancellation."""
    return None if task is None or task.cancelled() else task.exception()
