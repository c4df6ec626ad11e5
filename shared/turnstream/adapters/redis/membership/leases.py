"""Leases and fencing tokens: the owner of each partition (design §5)."""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from turnstream.adapters.redis.failures import understood
from turnstream.adapters.redis.membership.registry import Registry
from turnstream.adapters.redis.server import Server
from turnstream.errors import KeyUnusable, Unavailable
from turnstream.logging import get_logger
from turnstream.ports import Lease, Membership

log = get_logger(__name__)

TOKEN_BYTES = 4

State = TypeVar("State", bound=Lease)


def raise_failure(answers: Sequence[object]) -> None:
    """Raise what failed for a partition; that one of several nodes does not answer is none of the others' failure."""
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    for failure in failures:
        if len(failures) == len(answers) or not isinstance(failure, Unavailable):
            raise failure


class RedisMembership(Membership[State], ABC):
    """Members that share partitions, by scripts on a lease and a hash of each."""

    def __init__(self, server: Server, registry: Registry) -> None:
        """Use a server, and the registry of the members."""
        self._server = server
        self._registry = registry
        self._tokens: dict[tuple[int, str], str] = {}

    async def beat(self, member_id: str) -> Sequence[str]:
        """Announce that a member lives; return all live members."""
        return await self._registry.beat(member_id)

    async def watch(self, member_id: str) -> None:
        """Check that the next member is connected; if it is not in two checks, it is forgotten."""
        await self._registry.watch(member_id)

    async def depart(self, member_id: str) -> None:
        """Announce that a member leaves."""
        await self._registry.forget(member_id)

    async def take(self, partition: int, member_id: str) -> State | None:
        """Become the owner of a partition that is free, or was this member's before; `None` while it has another owner.

        Raises:
            ConfigurationError: the partition or the deployment has another number of partitions or layout.
            KeyUnusable: an unexpected value is stored at a key of the partition.

        """
        types = self._types(partition)
        return await understood(self._owned(partition, member_id), self._server.calls(partition), types)

    async def _owned(self, partition: int, member_id: str) -> State | None:
        answer = await self._take(partition, member_id)
        if len(answer) == 1 and member_of(answer[0].decode()) == member_id:
            # It was this member who took it, and the answer was lost.
            self._tokens[partition, member_id] = answer[0].decode()
            answer = await self._take(partition, member_id)
        if len(answer) == 1 and not await self._registry.has(member_of(answer[0].decode())):
            # Its owner is dead or was forgotten; should it live, the token fences it.
            answer = await self._take(partition, member_id, dead_owner=answer[0].decode())
        if len(answer) == 1:
            return None
        self._tokens[partition, member_id] = answer[0].decode()
        return await self._taken(partition, answer)

    async def renew(self, states: Sequence[State]) -> list[bool]:
        """Renew the leases of partitions; False for each that was lost, or has an unexpected value at a key.

        If one of several nodes does not answer, its partitions count as kept: no member can take them.

        Raises:
            Unavailable: no node answers.

        """

        def renewed(state: State) -> Awaitable[int]:
            keys, arguments = self._keys(state.partition), (state.token, self._lease_ms, self._history(state))
            return self._server.scripts.renew.run(self._server.calls(state.partition), keys, arguments)

        answers = await self._told_apart(states, renewed, "partition cannot be renewed")
        raise_failure(answers)
        return [answer is not None and bool(answer) for answer in answers]

    async def release(self, states: Sequence[State]) -> None:
        """Release partitions, and notify the members that may take them.

        If one of several nodes does not answer, the partitions of the others are released and announced.

        Raises:
            Unavailable: a release or its announcement failed; the leases expire.

        """

        def released(state: State) -> Awaitable[int]:
            keys = self._keys(state.partition)
            return self._server.scripts.release.run(self._server.calls(state.partition), keys, [state.token])

        answers = await self._told_apart(states, released, "partition cannot be released")
        if states:
            await self._registry.notify("partitions")
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def changes(self) -> AsyncIterator[None]:
        """Yield once when nothing can be missed any more, then whenever a member came, left or released something.

        Raises:
            Unavailable: the connection was lost.

        """
        subscription = await self._registry.subscribe()
        try:
            yield
            async for _ in subscription:
                yield
        finally:
            await subscription.aclose()

    @abstractmethod
    def _keys(self, partition: int) -> tuple[str, str]:
        """Return the lease of a partition, and the hash that holds its token."""

    @abstractmethod
    def _types(self, partition: int) -> Mapping[str, str]:
        """Return the keys that owning a partition needs, each with its type."""

    async def _told_apart(
        self, states: Sequence[State], call: Callable[[State], Awaitable[int]], failed: str
    ) -> list[int | BaseException | None]:
        """Return answers and failures; an unexpected value at a key of a partition is logged, and gives `None`."""

        async def answered(state: State) -> int:
            # The call is made here: a task that is cancelled before it starts would leave one that was made before.
            return await understood(call(state), self._server.calls(state.partition), self._types(state.partition))

        answers = await asyncio.gather(*map(answered, states), return_exceptions=True)
        for state, answer in zip(states, answers, strict=True):
            if isinstance(answer, KeyUnusable):
                log.warning(failed, partition=state.partition, error=str(answer))
        return [None if isinstance(answer, KeyUnusable) else answer for answer in answers]

    @abstractmethod
    async def _run_take(self, partition: int, own_before: str, name: str, dead_owner: str) -> list[Any]:
        """Take a partition by a script; the answer begins with the owner's token, and is that alone while it is taken.

        Args:
            partition: its number.
            own_before: the token of the member's earlier life, "" for none.
            name: the token that it gets, without the epoch.
            dead_owner: the token of an owner that is dead, "" for none.

        """

    @abstractmethod
    async def _taken(self, partition: int, answer: list[Any]) -> State:
        """Understand the answer to a take."""

    def _history(self, state: State) -> str:  # noqa: ARG002 - the partition's own owners look at it
        """Return the replication id without which a partition must be taken again; "" where that changes nothing."""
        return ""

    @property
    def _lease_ms(self) -> int:
        return int(self._server.settings.lease * 1000)

    async def _take(self, partition: int, member_id: str, dead_owner: str = "") -> list[Any]:
        own_before = self._tokens.get((partition, member_id), "")
        return await self._run_take(partition, own_before, f"{member_id}-{secrets.token_hex(TOKEN_BYTES)}", dead_owner)


def member_of(token: str) -> str:
    """Return the member's id in a token: `<epoch>-<member id>-<random>`."""
    return token.partition("-")[2].rpartition("-")[0]
