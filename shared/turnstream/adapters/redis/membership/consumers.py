"""The members of a durable subscription, and how they share the partitions (design §5, §6)."""

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from turnstream.adapters.redis.membership.leases import RedisMembership
from turnstream.adapters.redis.membership.registry import Registry
from turnstream.adapters.redis.pubsub.channels import RedisChannels
from turnstream.adapters.redis.server import Server
from turnstream.domain.position import LogPosition
from turnstream.ports import SubscriptionState
from turnstream.signals import BatchRefused

Answer = TypeVar("Answer")


class ConsumerMembership(RedisMembership[SubscriptionState]):
    """The members of one subscription, and the hash that it has in each partition."""

    def __init__(self, server: Server, channels: RedisChannels, name: str) -> None:
        """Use a server."""
        self.registry = Registry(server, channels, server.keys.members(name))
        super().__init__(server, self.registry)
        self._name = name

    def _keys(self, partition: int) -> tuple[str, str]:
        keys = self._server.partition(partition).subscription(self._name)
        return keys.lease, keys.state

    def _types(self, partition: int) -> Mapping[str, str]:
        return self._server.partition(partition).subscription(self._name).types

    async def _run_take(self, partition: int, own_before: str, name: str, dead_owner: str) -> list[Any]:
        script, calls = self._server.scripts.subscription_take, self._server.calls(partition)
        arguments = (own_before, name, self._lease_ms, dead_owner, int(self._server.knows_replication))
        answer: list[Any] = await script.run(calls, self._keys(partition), arguments)
        return answer

    async def _taken(self, partition: int, answer: list[Any]) -> SubscriptionState:
        token, generation, sequence, replication_id = answer
        return SubscriptionState(
            partition, token.decode(), log_position_of(generation, sequence), replication_id.decode()
        )

    def _history(self, state: SubscriptionState) -> str:
        return state.replication_id


async def understood(partition: int, answer: Awaitable[Answer]) -> Answer:
    """Return an answer; an error that is not transient means that an unexpected value is stored at a key."""
    try:
        return await answer
    except ResponseError as error:
        raise BatchRefused(partition, str(error)) from None


def log_position_of(generation: bytes | None, sequence: bytes | None) -> LogPosition | None:
    """Return a checkpoint as the hash has it; no generation is that of a partition in which nothing has happened."""
    return LogPosition((generation or b"").decode(), int(sequence)) if sequence else None
