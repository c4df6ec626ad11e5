"""`ts.admin.consumers`: durable subscriptions as operators see and change them (design §6)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import cast

from turnstream.client.subscriptions.start import Start, checked_start, find_position
from turnstream.codec.envelope import check_session_id
from turnstream.domain.models import Entity, partition_of
from turnstream.domain.position import LogPosition, Position
from turnstream.errors import SessionNotParked, SubscriptionNotFound, Unavailable
from turnstream.ports import Backend, EventPage, Request

REQUEST_POLL_INTERVAL_S = 0.05
"""Seconds between two checks whether a request has been carried out."""


class SubscriptionInfo(Entity, frozen=True):
    """A durable subscription: its live consumers (`members`), its lag, and its parked and retried sessions.

    `lag` counts the events of all types after the checkpoints. The events of `retried_sessions` are tried again
    automatically; `parked_sessions` wait for an operator.
    """

    name: str
    members: tuple[str, ...]
    lag: int
    parked_sessions: int
    parked_events: int
    retried_sessions: int
    retried_events: int


class PartitionLag(Entity, frozen=True):
    """The lag of a subscription in a partition: `behind` events, of all types, are between `mark` and `head`.

    `mark` is the checkpoint, `None` before the first one. It may be some events older than the last one handled.
    """

    partition: int
    mark: LogPosition | None
    head: LogPosition
    behind: int


class ParkedSession(Entity, frozen=True):
    """A session of which an event failed: `events` of together `size` bytes wait, `lost` more could not be stored.

    `reason` is that of the handler's last `NotHandled`, or the name of the error's class. `attempts` is how often the
    first event was tried, `next_try` when it is tried again, `None` for never. The session is retried until it
    `is_parked`; then it waits for an operator.
    """

    session_id: str
    events: int
    size: int
    since: datetime
    reason: str
    attempts: int
    lost: int
    is_parked: bool
    next_try: datetime | None


class ConsumerAdmin:
    """The durable subscriptions of a deployment, and what their consumers have handled."""

    def __init__(self, backend: Backend) -> None:
        """Operate on the subscriptions of a deployment."""
        self._backend = backend
        self._subscriptions = backend.subscriptions

    async def list(self) -> AsyncIterator[SubscriptionInfo]:
        """Yield all subscriptions, by name."""
        names = sorted(await self._subscriptions.names())
        # The checkpoints come first: events that are handled between the two reads are then counted as lag, and the
        # lag is never negative.
        checkpoints = await asyncio.gather(*map(self._subscriptions.checkpoints, names))
        pages = await self._heads()
        for name, of_name in zip(names, checkpoints, strict=True):
            yield await self._info(name, of_name, pages)

    async def lag(self, name: str) -> AsyncIterator[PartitionLag]:
        """Yield the lag of a subscription in each partition.

        Raises:
            SubscriptionNotFound: there is no such subscription.

        """
        await self._check(name)
        marks = await self._subscriptions.checkpoints(name)
        for number, page in (await self._heads()).items():
            mark, head = marks.get(number), LogPosition(page.generation, page.head)
            yield PartitionLag(number, mark, head, _lag(mark, page))

    async def reset(self, name: str, start: Start | datetime) -> None:
        """Move the checkpoints of a subscription to `"now"`, `"beginning"`, a position or a time.

        Its consumers notice when they renew their leases, four times in `TURNSTREAM_LEASE`, or store a checkpoint.
        Until then they may handle some more events. Parked sessions stay parked.

        Raises:
            SubscriptionNotFound: there is no such subscription.
            ValueError: the position does not fit this deployment.

        """
        await self._check(name)
        partitions = range(self._backend.partitions)
        if isinstance(start, Position):
            found = cast("Position", checked_start(start, partitions, len(partitions)))
        elif start == "beginning":
            pages = await self._heads()
            found = Position(tuple(LogPosition(page.generation, page.oldest - 1) for page in pages.values()))
        else:
            found = await find_position(self._backend, None if start == "now" else start)
        marks = {number: mark for number, mark in enumerate(found.log_positions) if mark is not None}
        await self._subscriptions.reset(name, marks)

    async def parked(self, name: str) -> AsyncIterator[ParkedSession]:
        """Yield the parked and retried sessions of a subscription, the one that has waited longest first.

        Raises:
            SubscriptionNotFound: there is no such subscription.

        """
        await self._check(name)
        found = [
            ParkedSession(i, p.count, p.size, p.since, p.reason, p.attempts, p.lost, p.is_parked, p.next_try)
            for partition in range(self._backend.partitions)
            for i, p in (await self._subscriptions.parked(name, partition)).items()
        ]
        for session in sorted(found, key=lambda session: (session.since, session.session_id)):
            yield session

    async def redrive(self, name: str, session_id: str, *, timeout: float = 30.0) -> int:
        """Handle the events of a parked or retried session now, until one fails; return how many are left.

        The limits of its retries start again: an event that fails is retried as if it had not failed before.

        Args:
            name: the subscription.
            session_id: the session.
            timeout: seconds to wait for the consumer that owns the session's partition. The request remains after that.

        Raises:
            InvalidCommand: this cannot be the id of a session.
            SubscriptionNotFound: there is no such subscription.
            SessionNotParked: the session is not parked or retried, or no longer.
            Unavailable: no consumer has carried it out in time.

        """
        return await self._request(name, session_id, "redrive", timeout)

    async def discard(self, name: str, session_id: str, *, timeout: float = 30.0) -> int:
        """Drop the events of a parked or retried session; the arguments and errors are those of `redrive`."""
        return await self._request(name, session_id, "discard", timeout)

    async def forget(self, name: str) -> None:
        """Delete a subscription, its checkpoints and its parked events.

        Raises:
            SubscriptionNotFound: there is no such subscription.
            SubscriptionInUse: it has live consumers.

        """
        await self._check(name)
        await self._subscriptions.forget(name)

    async def _request(self, name: str, session_id: str, what: Request, timeout: float) -> int:
        check_session_id(session_id)
        await self._check(name)
        partition = partition_of(session_id, self._backend.partitions)
        if session_id not in await self._subscriptions.parked(name, partition):
            raise SessionNotParked(name, session_id)
        await self._subscriptions.request(name, partition, session_id, what)
        try:
            async with asyncio.timeout(timeout):
                # Only the store shows the end of a request: another process may have made the same one.
                while await self._is_open(name, partition, session_id):  # noqa: ASYNC110
                    await asyncio.sleep(REQUEST_POLL_INTERVAL_S)
        except TimeoutError:
            members = len(await self._subscriptions.members(name))
            raise Unavailable(
                f"None of the {members} consumers of {name!r} has answered within {timeout:g} s; "
                "the request remains, and the next owner of the session's partition carries it out",
            ) from None
        left = (await self._subscriptions.parked(name, partition)).get(session_id)
        return left.count if left else 0

    async def _is_open(self, name: str, partition: int, session_id: str) -> bool:
        """Return whether a request still waits, and its session too: the session may have left before the request."""
        waits = session_id in await self._subscriptions.requests(name, partition)
        return waits and session_id in await self._subscriptions.parked(name, partition)

    async def _check(self, name: str) -> None:
        names = list(await self._subscriptions.names())
        if name not in names:
            raise SubscriptionNotFound(name, names)

    async def _heads(self) -> Mapping[int, EventPage]:
        numbers = range(self._backend.partitions)
        pages = await asyncio.gather(*(self._backend.events.read(number, 0, 0) for number in numbers))
        return dict(zip(numbers, pages, strict=True))

    async def _info(
        self, name: str, marks: Mapping[int, LogPosition], pages: Mapping[int, EventPage]
    ) -> SubscriptionInfo:
        numbers = range(self._backend.partitions)
        queues = await asyncio.gather(*(self._subscriptions.parked(name, number) for number in numbers))
        waiting = [queue for each in queues for queue in each.values()]
        parked = [queue for queue in waiting if queue.is_parked]
        return SubscriptionInfo(
            name,
            tuple(sorted(await self._subscriptions.members(name))),
            sum(_lag(marks.get(number), page) for number, page in pages.items()),
            len(parked),
            sum(queue.count for queue in parked),
            len(waiting) - len(parked),
            sum(queue.count for queue in waiting) - sum(queue.count for queue in parked),
        )


def _lag(checkpoint: LogPosition | None, page: EventPage) -> int:
    """Return how many events of a partition are stored after a checkpoint."""
    if checkpoint is None:
        return 0
    generation, sequence = checkpoint
    if generation != page.generation:
        # Only a part of the checkpoint's generation may have survived, or nothing.
        sequence = min(sequence, dict(page.former).get(generation, 0))
    # After a rollback the head may be before the checkpoint, until a worker owns the partition again.
    return max(0, page.head - max(sequence, page.oldest - 1))
