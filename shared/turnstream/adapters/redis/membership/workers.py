"""The workers of a deployment, and their leases on partitions (design §5)."""

import asyncio
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from turnstream.adapters.redis.commit.durability_gate import DurabilityGate
from turnstream.adapters.redis.deployment.identity import Deployment
from turnstream.adapters.redis.deployment.mismatch import made_otherwise
from turnstream.adapters.redis.keys import LAYOUT, MemberKeys
from turnstream.adapters.redis.maintenance import Maintenance
from turnstream.adapters.redis.membership.leases import RedisMembership, member_of
from turnstream.adapters.redis.membership.registry import Registry
from turnstream.adapters.redis.pubsub.channels import RedisChannels
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.stored_records import RecordLocation, read
from turnstream.codec.envelope import entry_time
from turnstream.codec.records import decode_type_sequences
from turnstream.ports import START, Condition, InFlight, Ownership, PartitionState, nothing_in_flight

GENERATION_BYTES = 8


class RedisOwnership(RedisMembership[PartitionState], Ownership):
    """The members are the workers, and the hash is the partition's own."""

    def __init__(
        self, server: Server, channels: RedisChannels, gate: DurabilityGate | None, deployment: Deployment
    ) -> None:
        """Use a server; a `gate` publishes the events that a former owner could not publish."""
        super().__init__(server, Registry(server, channels, MemberKeys(server.keys.workers, server.keys.changes)))
        self._gate = gate
        self._deployment = deployment
        self._tidying = Maintenance(server)

    async def release(self, states: Sequence[PartitionState]) -> None:
        """Release partitions, and notify the members that may take them."""
        if self._gate:
            await self._gate.drain(state.partition for state in states)
        await super().release(states)

    async def condition(self, partition: int) -> Condition:
        """Return which workers there are, and whether the server of a partition has room.

        Raises:
            StoredDataInvalid: an unexpected value is stored at the key of the registry.
            Unavailable: the server does not answer.

        """
        ages, is_full = await asyncio.gather(self._registry.ages(), self._is_full(partition))
        return Condition(ages, self._server.settings.lease, is_full)

    async def owners(self) -> Mapping[int, str]:
        """Return the worker that owns each partition, read from the leases.

        Raises:
            StoredDataInvalid: an unexpected value is stored at a lease.
            Unavailable: the server does not answer.

        """
        numbers = range(len(self._server.keys.partitions))
        tokens = await asyncio.gather(*map(self._token, numbers))
        return {number: member_of(token) for number, token in zip(numbers, tokens, strict=True) if token}

    async def _token(self, partition: int) -> str:
        lease = RecordLocation(self._server.partition(partition).lease, "string")
        token: bytes | None = await read(self._server.calls(partition), lease, "GET")
        return (token or b"").decode(errors="replace")

    async def _is_full(self, partition: int) -> bool:
        if not self._server.knows_replication:
            return False
        text: bytes = await self._server.calls(partition).call("INFO", "memory")
        used, most = (int(re.findall(rf"\b{name}:(\d+)", text.decode())[0]) for name in ("used_memory", "maxmemory"))
        return 0 < most <= used

    async def tidy(self, states: Sequence[PartitionState], in_flight: InFlight = nothing_in_flight) -> Sequence[int]:
        """Take events that are not kept any longer and look after the command streams, off the hot path.

        It also loads the functions where they are missing: they may have been flushed, or a shard may be new.

        Raises:
            Unavailable: no node answers.

        """
        await self._server.functions.keep(await self._server.topology.primaries())
        return await self._tidying.tidy(states, in_flight)

    def _keys(self, partition: int) -> tuple[str, str]:
        keys = self._server.partition(partition)
        return keys.lease, keys.partition

    def _types(self, partition: int) -> Mapping[str, str]:
        return self._server.partition(partition).types

    async def _run_take(self, partition: int, own_before: str, name: str, dead_owner: str) -> list[Any]:
        server, keys = self._server, self._server.partition(partition)
        arguments = (
            *(own_before, name, self._lease_ms),
            *(len(server.keys.partitions), LAYOUT, secrets.token_hex(GENERATION_BYTES)),
            *(int(server.knows_replication), dead_owner, int(self._gate is not None), server.buckets.window_ms),
        )
        try:
            answer: list[Any] = await server.scripts.take.run(
                server.calls(partition),
                [keys.lease, keys.partition, keys.commands, keys.events],
                arguments,
            )
        except ResponseError as error:
            raise _made_otherwise(error, partition, server) from error
        return answer

    def _history(self, state: PartitionState) -> str:
        # Without commands no commit would detect it, and unapplied or unpublished data would stay so.
        return state.replication_id

    async def _taken(self, partition: int, answer: list[Any]) -> PartitionState:
        token, replication_id, cursor, generation, sequence, types, suspects, stable, outcomes_at, now, passed = answer
        state = PartitionState(
            partition=partition,
            token=token.decode(),
            replication_id=replication_id.decode(),
            cursor=cursor.decode(),
            generation=generation.decode(),
            sequence=int(sequence),
            type_sequences=decode_type_sequences(types),
            # No more than were in its hands.
            suspects=min(suspects, self._server.settings.batch_commands),
            passed=int(passed),
        )
        self._server.clock(partition).start(int(outcomes_at), entry_time(state.cursor), int(now))
        if state.cursor == START:
            # Perhaps all keys are gone, with the layout; then another deployment may have been created.
            await self._deployment.make()
        if self._gate:
            await self._gate.take_over(state, int(stable))
        return state


def _made_otherwise(error: ResponseError, partition: int, server: Server) -> Exception:
    code, *made = str(error).split()
    if code != "LAYOUT":
        return error
    return made_otherwise(f"Partition {partition} at {server.where}", server, *made)
