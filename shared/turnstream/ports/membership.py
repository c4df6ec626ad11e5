"""Members that share the partitions among themselves: workers, and the processes of a subscription (design §5)."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeVar


class Lease(Protocol):
    """The common part of the states of all owners."""

    @property
    def partition(self) -> int:
        """The number of the partition that is owned."""
        ...

    @property
    def token(self) -> str:
        """The fencing token: every owner gets another one."""
        ...


State = TypeVar("State", bound=Lease)


class Membership(Protocol[State]):
    """The members of a group, and the leases on the partitions that they share."""

    async def beat(self, member_id: str) -> Sequence[str]:
        """Announce that a member lives; return all live members."""
        ...

    async def watch(self, member_id: str) -> None:
        """Check that the next member is connected, and forget it if not; together the members watch all."""
        ...

    async def depart(self, member_id: str) -> None:
        """Announce that a member leaves."""
        ...

    async def take(self, partition: int, member_id: str) -> State | None:
        """Become the owner of a partition that is free; `None` while another live member owns it."""
        ...

    async def renew(self, states: Sequence[State]) -> list[bool]:
        """Keep partitions for another lease time; False for each that was lost."""
        ...

    async def release(self, states: Sequence[State]) -> None:
        """Release partitions, and notify the members that wait for them."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield once when nothing can be missed any more, then whenever a member came, left or released something."""
        ...
