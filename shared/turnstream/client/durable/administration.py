"""`ts.subscriptions`: what an operator can see of durable subscriptions and do with them (design §6)."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import cast

from turnstream.application.routing import partition_of
from turnstream.client.listening.choosing import Start, checked_start
from turnstream.client.listening.moments import position
from turnstream.codec.commands import check_session_id
from turnstream.domain.models import Entity
from turnstream.domain.position import Mark, Position
from turnstream.errors import SessionNotParked, SubscriptionNotFound, Unavailable
from turnstream.ports import Backend, EventPage, Request

LOOK_EVERY = 0.05
"""Seconds between two looks whether a request is carried out."""


class SubscriptionInfo(Entity, frozen=True):
    """A subscription: its live members, the events not handled yet (of all types), what is parked and what is retried.

    `retried_sessions` are set aside as those that are parked, but are tried again before an operator is needed.
    """

    name: str
    members: tuple[str, ...]
    lag: int
    parked_sessions: int
    parked_events: int
    retried_sessions: int
    retried_events: int


class PartitionLag(Entity, frozen=True):
    """How far a subscription is in a partition: `behind` of its events, of all types, are not handled yet.

    `mark` is the last checkpoint; it counts what is handled, so a member that is killed handles some events again.
    """

    partition: int
    mark: Mark | None
    head: Mark
    behind: int


class ParkedSession(Entity, frozen=True):
    """A session that is set aside, for its handler did not take an event; `lost` more could not be kept.

    `reason` is that of the handler's last `NotHandled`, of another error the name of its class; `attempts` is how often
    the first event was tried, and `next_try` when it is tried again, `None` for never. A session that `is_parked` was
    tried as often as it may be: it waits for an operator.
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


class SubscriptionAdministration:
    """The durable subscriptions of a deployment."""

    def __init__(self, backend: Backend) -> None:
        """Look at a deployment."""
        self._backend = backend
        self._subscriptions = backend.subscriptions

    async def list_all(self) -> list[SubscriptionInfo]:
        """Return all subscriptions, by name."""
        names = sorted(await self._subscriptions.names())
        # First the marks: whatever is handled meanwhile is no lag.
        marks = await asyncio.gather(*map(self._subscriptions.marks, names))
        pages = await self._heads()
        return [await self._info(name, of_name, pages) for name, of_name in zip(names, marks, strict=True)]

    async def lag(self, name: str) -> list[PartitionLag]:
        """Return how far a subscription is, by partition.

        Raises:
            SubscriptionNotFound: there is no such subscription.

        """
        await self._check(name)
        marks = await self._subscriptions.marks(name)
        return [
            PartitionLag(number, marks.get(number), (page.generation, page.head), _behind(marks.get(number), page))
            for number, page in (await self._heads()).items()
        ]

    async def reset(self, name: str, start: Start | datetime) -> None:
        """Let a subscription go on from somewhere else: `"now"`, `"beginning"`, a position or a time.

        Its members notice when they renew their leases, four times in `TURNSTREAM_LEASE`, or write a checkpoint; what
        they have in hand until then may still be handled. Parked sessions stay parked.

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
            found = Position(tuple((page.generation, page.oldest - 1) for page in pages.values()))
        else:
            found = await position(self._backend, None if start == "now" else start)
        marks = {number: mark for number, mark in enumerate(found.marks) if mark is not None}
        await self._subscriptions.reset(name, marks)

    async def parked(self, name: str) -> list[ParkedSession]:
        """Return the sessions of a subscription that are set aside, the one that waits for longest first.

        Raises:
            SubscriptionNotFound: there is no such subscription.

        """
        await self._check(name)
        found = [
            ParkedSession(i, p.count, p.size, p.since, p.reason, p.attempts, p.lost, p.is_parked, p.next_try)
            for partition in range(self._backend.partitions)
            for i, p in (await self._subscriptions.parked(name, partition)).items()
        ]
        return sorted(found, key=lambda session: (session.since, session.session_id))

    async def redrive(self, name: str, session_id: str, *, timeout: float = 30.0) -> int:
        """Have the events of a session that is set aside handled now, until one fails; return how many are left.

        One that fails is tried again as if it had not failed before.

        Args:
            name: the subscription.
            session_id: the session.
            timeout: seconds to wait for the member that owns the session's partition; later it does it all the same.

        Raises:
            InvalidCommand: this cannot be the id of a session.
            SubscriptionNotFound: there is no such subscription.
            SessionNotParked: the session is not parked, or not any more.
            Unavailable: no member has done it in time.

        """
        return await self._request(name, session_id, "redrive", timeout)

    async def discard(self, name: str, session_id: str, *, timeout: float = 30.0) -> int:
        """Drop the events of a parked session unhandled; the arguments and errors are those of `redrive`."""
        return await self._request(name, session_id, "discard", timeout)

    async def forget(self, name: str) -> None:
        """Forget a subscription, its checkpoints and its parked events.

        Raises:
            SubscriptionNotFound: there is no such subscription.
            SubscriptionInUse: it has live members.

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
                # By looking: the answer is in the store, also when another process asked.
                while await self._is_open(name, partition, session_id):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            members = len(await self._subscriptions.members(name))
            raise Unavailable(
                f"None of the {members} members of {name!r} has answered within {timeout:g} s; "
                "the request stays, and is carried out by the next one that owns the session",
            ) from None
        left = (await self._subscriptions.parked(name, partition)).get(session_id)
        return left.count if left else 0

    async def _is_open(self, name: str, partition: int, session_id: str) -> bool:
        """Tell whether a request waits, and the session still does, which somebody else may have let go meanwhile."""
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

    async def _info(self, name: str, marks: Mapping[int, Mark], pages: Mapping[int, EventPage]) -> SubscriptionInfo:
        numbers = range(self._backend.partitions)
        queues = await asyncio.gather(*(self._subscriptions.parked(name, number) for number in numbers))
        aside = [queue for each in queues for queue in each.values()]
        parked = [queue for queue in aside if queue.is_parked]
        return SubscriptionInfo(
            name,
            tuple(sorted(await self._subscriptions.members(name))),
            sum(_behind(marks.get(number), page) for number, page in pages.items()),
            len(parked),
            sum(queue.count for queue in parked),
            len(aside) - len(parked),
            sum(queue.count for queue in aside) - sum(queue.count for queue in parked),
        )


def _behind(mark: Mark | None, page: EventPage) -> int:
    """Return how many events of a partition are kept behind a mark."""
    if mark is None:
        return 0
    generation, sequence = mark
    if generation != page.generation:
        sequence = min(sequence, dict(page.former).get(generation, 0))
    # A server that went back to an older state has a lower head, until a worker takes the partition.
    return max(0, page.head - max(sequence, page.oldest - 1))
