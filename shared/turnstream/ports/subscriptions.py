"""The store of durable subscriptions: checkpoints, and the sessions that are retried or parked (design §6)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Literal, Protocol

import msgspec

from turnstream.domain.position import LogPosition
from turnstream.ports.membership import Membership

SUBSCRIPTION_NAME = r"[A-Za-z0-9_.-]{1,64}"
"""The pattern of subscription names, checked when a subscription is created."""

Request = Literal["redrive", "discard"]
"""A request of an operator for a retried or parked session: handle its events again, or drop them."""


class ParkResult(IntEnum):
    """The result of queueing an event for a retry."""

    LOST = 0
    """The partition is at its limit for queued events: the event is counted as lost, and its session is retried."""
    KEPT = 1
    """It waits in its session's queue, or did before."""
    FULL = 2
    """The partition is at its limit, and the event may not be lost: nothing was written."""
    ABSENT = 3
    """Its session has no queue in which the event could wait: nothing was written."""


class SubscriptionState(msgspec.Struct, frozen=True, gc=False):
    """The state of a partition as the consumer that owns it knows it.

    `mark` is the checkpoint: every event up to it is handled or queued for a retry; `None` if there is none.
    `replication_id` identifies the history of the server ("" if it is not known).
    """

    partition: int
    token: str
    mark: LogPosition | None
    replication_id: str = ""


class FailedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event to be queued for a retry: its envelope as `payload`, and the reason.

    `reason` is that of a `NotHandled`, or the class of another error, never its text, which may quote contents.
    `attempts` is the number of failed attempts. An event that waits after a failed one has "" and 0.
    """

    session_id: str
    sequence: int
    payload: bytes
    reason: str = ""
    attempts: int = 0


class Failure(msgspec.Struct, frozen=True, gc=False):
    """How the event at the head of a session's queue failed, and what follows from that.

    `attempts` is how often it was handled in vain, for the first time at `first` (`None`: now), and `doublings` how
    often the limits of its retries were doubled. `retry_in` is in seconds, `None` for never. A session that `is_parked`
    was given up: it waits for an operator, even if it is retried occasionally.
    """

    reason: str = ""
    attempts: int = 0
    first: datetime | None = None
    doublings: int = 0
    is_parked: bool = False
    retry_in: float | None = None


class ParkedEvents(msgspec.Struct, frozen=True, gc=False):
    """The queue of a retried or parked session: `count` events of together `size` bytes, in order.

    It exists since `since`. `reason`, `attempts`, `first`, `doublings` and `is_parked` are those of the last `Failure`;
    an event that came to the head later has only `is_parked`. `next_try` is the time of the next attempt at the head.
    `lost` events are not in the queue, because it was full when they came.
    """

    count: int
    size: int
    since: datetime
    reason: str
    attempts: int
    lost: int
    first: datetime | None = None
    doublings: int = 0
    is_parked: bool = True
    next_try: datetime | None = None


class DueSessions(msgspec.Struct, frozen=True, gc=False):
    """Sessions whose head is to be handled now, by the server's clock, and the seconds until the next one is due."""

    now: datetime
    sessions: Mapping[str, ParkedEvents]
    next_in: float | None


class ConsumerStore(Protocol):
    """The stored side of durable subscriptions, by their names."""

    def membership(self, name: str) -> Membership[SubscriptionState]:
        """Return how members share the partitions of a subscription; requests and resets ring its `changes` too."""
        ...

    async def checkpoint(self, name: str, state: SubscriptionState, mark: LogPosition) -> None:
        """Note how far a partition is handled.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def parked(self, name: str, partition: int) -> Mapping[str, ParkedEvents]:
        """Return the retried and parked sessions of a partition."""
        ...

    async def due(self, name: str, partition: int, count: int) -> DueSessions:
        """Return up to `count` sessions that are due, the one that is due for longest first."""
        ...

    async def parked_session(self, name: str, partition: int, session_id: str) -> ParkedEvents | None:
        """Return one retried or parked session without its next attempt; `None` if it is neither."""
        ...

    async def queue(self, name: str, partition: int, session_id: str, count: int) -> Sequence[tuple[int, bytes]]:
        """Return up to `count` parked events of a session from the head on, each as its sequence and its envelope."""
        ...

    async def park(
        self,
        name: str,
        state: SubscriptionState,
        event: FailedEvent,
        failure: Failure | None = None,
        *,
        lose: bool = True,
    ) -> ParkResult:
        """Append an event to the queue of its session; an event that failed creates the queue.

        An event that is not newer than all earlier ones is not queued again: it is in the queue, or has left it.

        Args:
            name: the subscription.
            state: the state of the partition.
            event: the event; without `attempts` it waits after others, and is not queued if there are none.
            failure: the consequence for a session that gets a queue now; by default it is parked.
            lose: if the partition is at its limit for queued events, count the event as lost.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def postpone(self, name: str, state: SubscriptionState, session_id: str, failure: Failure) -> bool:
        """Note how the head of a session's queue failed, and the time of the next attempt; False if there is no queue.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def hasten(self, name: str, state: SubscriptionState, count: int) -> int:
        """Make the next `count` sessions due now; return how many there were.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def unpark(
        self, name: str, state: SubscriptionState, session_id: str, sequence: int, lost: int | None = None
    ) -> int:
        """Drop the head of a session's queue if it has this sequence; return how many are left.

        The last event stays if more than `lost` events were lost, unless `lost` is `None`: 1 is returned.

        With no event left the queue and the count of lost events are removed. If all events were lost, so that the
        queue is empty, any sequence does that.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def request(self, name: str, partition: int, session_id: str, what: Request) -> None:
        """Ask the owner of a partition to redrive or discard a parked session, and notify it."""
        ...

    async def requests(self, name: str, partition: int) -> Mapping[str, Request]:
        """Return the requests, by session."""
        ...

    async def withdraw(self, name: str, partition: int, session_id: str) -> None:
        """Remove a request after it was carried out."""
        ...

    async def names(self) -> Sequence[str]:
        """Return all subscriptions that had a member, except those that were forgotten."""
        ...

    async def members(self, name: str) -> Sequence[str]:
        """Return the live members of a subscription."""
        ...

    async def checkpoints(self, name: str) -> Mapping[int, LogPosition]:
        """Return the checkpoints, by partition."""
        ...

    async def reset(self, name: str, marks: Mapping[int, LogPosition]) -> None:
        """Set checkpoints. The owners of these partitions are fenced, and have to take them again.

        Parked sessions stay parked: their queues take no event again that they had before.
        """
        ...

    async def forget(self, name: str) -> None:
        """Forget everything of a subscription.

        Raises:
            SubscriptionInUse: it has live members.

        """
        ...
