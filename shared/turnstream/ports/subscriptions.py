"""What durable subscriptions store: how far each partition is handled, and what is set aside (design §6)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Literal, Protocol

import msgspec

from turnstream.domain.position import Mark
from turnstream.ports.membership import Membership

SUBSCRIPTION_NAME = r"[A-Za-z0-9_.-]{1,64}"
"""What a subscription may be called; whoever makes one checks it."""

Request = Literal["redrive", "discard"]
"""What an operator asks for a session that is set aside: handle its events again, or drop them."""


class SetAside(IntEnum):
    """What became of an event that should be set aside."""

    LOST = 0
    """The partition's events that are set aside are at their limit: it is counted, and its session set aside."""
    KEPT = 1
    """It waits in its session's queue, or did before."""
    FULL = 2
    """They are at their limit, and it may not be lost: nothing was written."""
    ABSENT = 3
    """Its session, behind whose events it should wait, is not set aside any more: nothing was written."""


class SubscriptionState(msgspec.Struct, frozen=True, gc=False):
    """What a member must know of a partition that it owns.

    `mark` is the checkpoint: the last event that is handled or set aside, as all before it are; `None` without one.
    """

    partition: int
    token: str
    mark: Mark | None


class FailedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event to be set aside: its envelope as `payload`, and why.

    `reason` is that of a `NotHandled`, of other errors the class name, never the text, which may quote contents;
    `attempts` is how often the event was handled in vain. An event that waits after a failed one has "" and 0.
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
    was given up: it waits for an operator, also where it is tried again now and then.
    """

    reason: str = ""
    attempts: int = 0
    first: datetime | None = None
    doublings: int = 0
    is_parked: bool = False
    retry_in: float | None = None


class ParkedEvents(msgspec.Struct, frozen=True, gc=False):
    """The queue of a session that is set aside: `count` events of together `size` bytes, in order.

    It waits since `since`. `reason`, `attempts`, `first`, `doublings` and `is_parked` are those of the last `Failure`;
    of an event that came to the head since then, nothing is known but `is_parked`. `next_try` is when the head is to be
    handled again. `lost` events are not in the queue, for it was full when they came.
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


class Subscriptions(Protocol):
    """The stored side of durable subscriptions, by their names."""

    def membership(self, name: str) -> Membership[SubscriptionState]:
        """Return how members share the partitions of a subscription; requests and resets ring its `changes` too."""
        ...

    async def checkpoint(self, name: str, state: SubscriptionState, mark: Mark) -> None:
        """Note how far a partition is handled.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def parked(self, name: str, partition: int) -> Mapping[str, ParkedEvents]:
        """Return the sessions of a partition that are set aside."""
        ...

    async def due(self, name: str, partition: int, count: int) -> DueSessions:
        """Return up to `count` sessions that are due, the one that is due for longest first."""
        ...

    async def parked_session(self, name: str, partition: int, session_id: str) -> ParkedEvents | None:
        """Return one session of a partition, `None` if it is not set aside; without its next try."""
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
    ) -> SetAside:
        """Put an event at the end of its session's queue; one that failed sets the session aside.

        An event that is not newer than all that came before it is not queued again: it is there, or has left already.

        Args:
            name: the subscription.
            state: what the owner knows of the partition.
            event: the event; with no `attempts` it waits after others, and is left alone where there are none.
            failure: what follows for a session that is set aside by it; by default it is parked.
            lose: where the partition's events are at their limit, count it as lost.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def postpone(self, name: str, state: SubscriptionState, session_id: str, failure: Failure) -> bool:
        """Note how the head of a session's queue failed, and when it is to be tried again; False where there is none.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def hasten(self, name: str, state: SubscriptionState, count: int) -> int:
        """Make the next `count` sessions due that would be later; return how many there were.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def unpark(
        self, name: str, state: SubscriptionState, session_id: str, sequence: int, lost: int | None = None
    ) -> int:
        """Drop the head of a session's queue if it has this sequence; return how many are left.

        The last one stays where more than `lost` events were lost, unless that is `None`: 1 is returned.

        With none left the session is not set aside any more, and what was lost of it is forgotten. Where all of it was
        lost, so that the queue is empty, any sequence does that.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def request(self, name: str, partition: int, session_id: str, what: Request) -> None:
        """Ask a partition's owner to redrive or discard a parked session, and ring the bell for it."""
        ...

    async def requests(self, name: str, partition: int) -> Mapping[str, Request]:
        """Return what is asked for, by session."""
        ...

    async def withdraw(self, name: str, partition: int, session_id: str) -> None:
        """Forget a request: it is done."""
        ...

    async def names(self) -> Sequence[str]:
        """Return all subscriptions that ever had a member, but for those forgotten since."""
        ...

    async def members(self, name: str) -> Sequence[str]:
        """Return the live members of a subscription."""
        ...

    async def marks(self, name: str) -> Mapping[int, Mark]:
        """Return the checkpoints, by partition."""
        ...

    async def reset(self, name: str, marks: Mapping[int, Mark]) -> None:
        """Set checkpoints; who owns one of these partitions is fenced, and has to take it again.

        Sessions that are parked stay so: of what is read again, their queues take no event that they had before.
        """
        ...

    async def forget(self, name: str) -> None:
        """Forget everything of a subscription.

        Raises:
            SubscriptionInUse: it has live members.

        """
        ...
