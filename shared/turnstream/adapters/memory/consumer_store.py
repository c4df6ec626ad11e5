"""Durable subscriptions in memory: as durable as the process."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from turnstream.adapters.memory.leases import MemoryLease
from turnstream.adapters.memory.members import MemoryMembers
from turnstream.adapters.memory.parked_events import ParkedEventLimits, ParkedSessions
from turnstream.domain.position import LogPosition
from turnstream.errors import SubscriptionInUse
from turnstream.ports import (
    ConsumerStore,
    DueSessions,
    FailedEvent,
    Failure,
    Membership,
    ParkedEvents,
    ParkResult,
    Request,
    SubscriptionState,
)
from turnstream.signals import Fenced


class SubscribedPartition:
    """The stored state of a subscription in one partition."""

    def __init__(self, limits: ParkedEventLimits) -> None:
        """Start free, at no checkpoint."""
        self.lease = MemoryLease()
        self.mark: LogPosition | None = None
        self.parked = ParkedSessions(limits)
        self.requests: dict[str, Request] = {}


class MemoryMembership(MemoryMembers, Membership[SubscriptionState]):
    """The members of a subscription, and what they share."""

    def __init__(self, partitions: int, limits: ParkedEventLimits) -> None:
        """Start without members, and with nothing stored."""
        super().__init__()
        self.had_members = False
        self._count = partitions
        self._limits = limits
        self.clear()

    def clear(self) -> None:
        """Forget everything except the members."""
        self.partitions = [SubscribedPartition(self._limits) for _ in range(self._count)]
        self.had_members = False

    def owned(self, state: SubscriptionState) -> SubscribedPartition:
        """Return a partition to its owner.

        Raises:
            Fenced: it has another one.

        """
        partition = self.partitions[state.partition]
        if partition.lease.token != state.token:
            raise Fenced(state.partition, "token")
        return partition

    async def beat(self, member_id: str) -> Sequence[str]:
        """Announce that a member lives; return all live members."""
        self.had_members = True
        return await super().beat(member_id)

    async def take(self, partition: int, member_id: str) -> SubscriptionState | None:
        """Become the owner of a partition that is free; `None` while another live member owns it."""
        wanted = self.partitions[partition]
        if not self.may_take(wanted.lease, member_id):
            return None
        return SubscriptionState(partition, wanted.lease.take(member_id), wanted.mark)

    async def renew(self, states: Sequence[SubscriptionState]) -> list[bool]:
        """Keep partitions; False for each that was lost."""
        return [self.partitions[state.partition].lease.renew(state.token) for state in states]

    async def release(self, states: Sequence[SubscriptionState]) -> None:
        """Release partitions, and notify the members that may take them."""
        released = [self.partitions[state.partition].lease.release(state.token) for state in states]
        if any(released):
            self.notifier.notify()


class MemoryConsumerStore(ConsumerStore):
    """The subscriptions of a deployment, each made when its name is used for the first time."""

    def __init__(self, partitions: int, limits: ParkedEventLimits) -> None:
        """Start without any; `limits` are those of each partition of each subscription."""
        self._partitions = partitions
        self._limits = limits
        self._memberships: dict[str, MemoryMembership] = {}

    def membership(self, name: str) -> MemoryMembership:
        """Return how the members of a subscription share its partitions."""
        if name not in self._memberships:
            self._memberships[name] = MemoryMembership(self._partitions, self._limits)
        return self._memberships[name]

    async def checkpoint(self, name: str, state: SubscriptionState, mark: LogPosition) -> None:
        """Note how far a partition is handled.

        Raises:
            Fenced: the partition has another owner.

        """
        self.membership(name).owned(state).mark = mark

    async def parked(self, name: str, partition: int) -> Mapping[str, ParkedEvents]:
        """Return the retried and parked sessions of a partition."""
        queues = self._partition(name, partition).parked.queues
        return {session_id: queue.described() for session_id, queue in queues.items()}

    async def due(self, name: str, partition: int, count: int) -> DueSessions:
        """Return up to `count` sessions that are due, the one that is due for longest first."""
        return self._partition(name, partition).parked.due(count)

    async def parked_session(self, name: str, partition: int, session_id: str) -> ParkedEvents | None:
        """Return one retried or parked session; `None` if it is neither."""
        queue = self._partition(name, partition).parked.queues.get(session_id)
        return replace(queue.described(), next_try=None) if queue else None

    async def queue(self, name: str, partition: int, session_id: str, count: int) -> Sequence[tuple[int, bytes]]:
        """Return up to `count` parked events of a session from the head on, each as its sequence and its envelope."""
        queue = self._partition(name, partition).parked.queues.get(session_id)
        return list(queue.events.items())[:count] if queue else []

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

        Raises:
            Fenced: the partition has another owner.

        """
        return self.membership(name).owned(state).parked.park(event, failure, lose=lose)

    async def postpone(self, name: str, state: SubscriptionState, session_id: str, failure: Failure) -> bool:
        """Note how the head of a session's queue failed, and the next attempt; False if there is no queue.

        Raises:
            Fenced: the partition has another owner.

        """
        return self.membership(name).owned(state).parked.postpone(session_id, failure)

    async def hasten(self, name: str, state: SubscriptionState, count: int) -> int:
        """Make the next `count` sessions due that would be later; return how many there were.

        Raises:
            Fenced: the partition has another owner.

        """
        return self.membership(name).owned(state).parked.hasten(count)

    async def unpark(
        self, name: str, state: SubscriptionState, session_id: str, sequence: int, lost: int | None = None
    ) -> int:
        """Drop the head of a session's queue if it has this sequence; return how many are left.

        Raises:
            Fenced: the partition has another owner.

        """
        return self.membership(name).owned(state).parked.unpark(session_id, sequence, lost)

    async def request(self, name: str, partition: int, session_id: str, what: Request) -> None:
        """Ask a partition's owner to redrive or discard a parked session, and notify it."""
        self._partition(name, partition).requests[session_id] = what
        self.membership(name).notifier.notify()

    async def requests(self, name: str, partition: int) -> Mapping[str, Request]:
        """Return what is asked for, by session."""
        return dict(self._partition(name, partition).requests)

    async def withdraw(self, name: str, partition: int, session_id: str) -> None:
        """Forget a request: it is done."""
        self._partition(name, partition).requests.pop(session_id, None)

    async def names(self) -> Sequence[str]:
        """Return all subscriptions that ever had a member, but for those forgotten since."""
        return sorted(name for name, membership in self._memberships.items() if membership.had_members)

    async def members(self, name: str) -> Sequence[str]:
        """Return the live members of a subscription."""
        return list(self.membership(name).alive)

    async def checkpoints(self, name: str) -> Mapping[int, LogPosition]:
        """Return the checkpoints, by partition."""
        return {n: p.mark for n, p in enumerate(self.membership(name).partitions) if p.mark}

    async def reset(self, name: str, marks: Mapping[int, LogPosition]) -> None:
        """Set checkpoints; the owners of these partitions are fenced, and have to take them again."""
        for number, mark in marks.items():
            partition = self._partition(name, number)
            partition.mark = mark
            partition.lease.revoke()
        self.membership(name).notifier.notify()

    async def forget(self, name: str) -> None:
        """Forget everything of a subscription.

        Raises:
            SubscriptionInUse: it has live members.

        """
        membership = self.membership(name)
        if membership.alive:
            raise SubscriptionInUse(name, len(membership.alive))
        membership.clear()

    async def aclose(self) -> None:
        """End all waiting for changes."""
        for membership in self._memberships.values():
            await membership.aclose()

    def _partition(self, name: str, number: int) -> SubscribedPartition:
        return self.membership(name).partitions[number]
