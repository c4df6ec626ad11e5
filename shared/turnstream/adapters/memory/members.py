"""Who is there to own partitions (design §5): members of one process, which end together."""

from collections.abc import AsyncIterator, Sequence

from turnstream.adapters.memory.bell import Bell
from turnstream.adapters.memory.lease import MemoryLease


class MemoryMembers:
    """The registry of those who share the partitions."""

    def __init__(self) -> None:
        """Start without members."""
        self.alive: dict[str, None] = {}
        self.bell = Bell()

    async def beat(self, member_id: str) -> Sequence[str]:
        """Announce that a member lives; return all live members."""
        if member_id not in self.alive:
            self.alive[member_id] = None
            self.bell.ring()
        return list(self.alive)

    async def watch(self, member_id: str) -> None:
        """Do nothing: what ends a member of this process ends all of them."""

    async def depart(self, member_id: str) -> None:
        """Announce that a member leaves; what it still holds is free to take."""
        self.alive.pop(member_id, None)
        self.bell.ring()

    async def changes(self) -> AsyncIterator[None]:
        """Yield once when nothing can be missed any more, then whenever a member came, left or released something."""
        rings = self.bell.listen()
        yield
        async for _ in rings:
            yield

    async def aclose(self) -> None:
        """End all waiting for changes."""
        self.bell.close()

    def may_take(self, lease: MemoryLease, member_id: str) -> bool:
        """Tell whether a member may take a lease: its owner is nobody, gone, or the member itself."""
        if lease.owner not in self.alive:
            lease.expire()
        return lease.is_free_for(member_id)
