"""What durable subscriptions store: how far each partition is handled, and what is set aside (design §6)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from turnstream.domain.position import Mark
from turnstream.ports.membership import Membership

SUBSCRIPTION_NAME = r"[A-Za-z0-9_.-]{1,64}"
"""What a subscription may be called; whoever makes one checks it."""

Request = Literal["redrive", "discard"]
"""What an operator asks for a parked session: handle its events again, or drop them."""


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
    `attempts` is how often the event was handled in vain. Of an event that waits behind a failed one nothing is known:
    "" and 0.
    """

    session_id: str
    sequence: int
    payload: bytes
    reason: str = ""
    attempts: int = 0


class ParkedEvents(msgspec.Struct, frozen=True, gc=False):
    """The queue of a parked session: `count` events of together `size` bytes, in order.

    It is parked since `since`; `reason` and `attempts` are those of the last failure. `lost` events are not in the
    queue, for it was full when they came.
    """

    count: int
    size: int
    since: datetime
    reason: str
    attempts: int
    lost: int


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
        """Return the parked sessions of a partition."""
        ...

    async def queue(self, name: str, partition: int, session_id: str, count: int) -> Sequence[tuple[int, bytes]]:
        """Return up to `count` parked events of a session from the head on, each as its sequence and its envelope."""
        ...

    async def park(self, name: str, state: SubscriptionState, event: FailedEvent) -> bool:
        """Put an event at the end of its session's queue; the first one parks the session.

        An event that is not newer than all that came before it is not queued again: it is there, or has left already.
        The one at the head failed again: its `reason` and `attempts` replace those noted.

        Returns:
            False where the partition's parked events are at their limit: the event is counted as lost, and its session
            is parked all the same.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def unpark(self, name: str, state: SubscriptionState, session_id: str, sequence: int) -> int:
        """Drop the head of a session's queue if it has this sequence; return how many are left.

        With none left the session is not parked any more, and what was lost of it is forgotten. Where all of it was
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
