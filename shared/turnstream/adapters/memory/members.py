"""The members that share partitions (design §5); all are in one process and end together."""

from collections.abc import AsyncIterator, Sequence

from turnstream.adapters.memory.leases import MemoryLease
from turnstream.adapters.memory.notifier import Notifier


class MemoryMembers:
    """The registry of the workers, or of the consumers of a subscription."""

    def __init__(self) -> None:
        """Start without members."""
        self.alive: dict[str, None] = {}
        self.notifier = Notifier()

    async def beat(self, member_id: str) -> Sequence[str]:
        """Register a member; return all live members."""
        if member_id not in self.alive:
            self.alive[member_id] = None
            self.notifier.notify()
        return list(self.alive)

    async def watch(self, member_id: str) -> None:
        """Do nothing: the members of a process end together, so none has to watch another."""

    async def depart(self, member_id: str) -> None:
        """Remove a member; the partitions that it still holds become free."""
        self.alive.pop(member_id, None)
        self.notifier.notify()

    async def changes(self) -> AsyncIterator[None]:
        """Yield once when listening, then each time a member has joined, left or released a partition."""
        rings = self.notifier.listen()
        yield
        async for _ in rings:
            yield

    async def aclose(self) -> None:
        """End all iterators of changes."""
        self.notifier.close()

    def may_take(self, lease: MemoryLease, member_id: str) -> bool:
        """Return whether a member may take a lease: it is free, its owner has left, or the member has it."""
        if lease.owner not in self.alive:
            lease.expire()
        return lease.is_free_for(member_id)
