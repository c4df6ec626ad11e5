"""Leases, fencing tokens and heartbeats (design §5)."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence

from redis.exceptions import ResponseError

from turnstream.adapters.redis.channels import RedisChannels
from turnstream.adapters.redis.checks import check_deployment
from turnstream.adapters.redis.keys import LAYOUT
from turnstream.adapters.redis.server import Server
from turnstream.codec.records import decode_type_sequences
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.ports import START, PartitionState

GROUP = "turnstream"
"""The consumer group that shows a partition's progress to standard tools; nobody reads through it."""

GENERATION_BYTES = 8


class RedisOwnership:
    """Who applies the commands of which partition, by scripts on each partition's lease and hash."""

    def __init__(self, server: Server, channels: RedisChannels) -> None:
        """Use a server."""
        self._server = server
        self._channels = channels
        self._tokens: dict[tuple[int, str], str] = {}

    async def beat(self, worker_id: str) -> Sequence[str]:
        """Announce that a worker lives; return all live workers."""
        keys = self._server.keys
        arguments = (worker_id, self._lease_ms, keys.changes)
        alive: list[bytes] = await self._server.scripts.beat.run(self._server.registry, [keys.workers], arguments)
        return [worker.decode() for worker in alive]

    async def depart(self, worker_id: str) -> None:
        """Announce that a worker leaves."""
        await self._server.registry.call("ZREM", self._server.keys.workers, worker_id)
        await self._ring("workers")

    async def take(self, partition: int, worker_id: str) -> PartitionState | None:
        """Become the owner of a partition that is free, or was this worker's before; `None` while it has another owner.

        Raises:
            ConfigurationError: the partition or the deployment has another number of partitions or layout.

        """
        server, keys = self._server, self._server.partition(partition)
        arguments = (
            *(self._tokens.get((partition, worker_id), ""), f"{worker_id}-{secrets.token_hex(4)}", self._lease_ms),
            *(len(server.keys.partitions), LAYOUT, secrets.token_hex(GENERATION_BYTES)),
            int(server.knows_replication),
        )
        try:
            answer: list[bytes] = await server.scripts.take.run(
                server.calls(partition),
                [keys.lease, keys.partition],
                arguments,
            )
        except ResponseError as error:
            raise _made_otherwise(error, partition, server) from error
        if not answer:
            return None
        token, replication_id, cursor, generation, sequence, types = answer
        self._tokens[partition, worker_id] = token.decode()
        state = PartitionState(
            partition=partition,
            token=token.decode(),
            replication_id=replication_id.decode(),
            cursor=cursor.decode(),
            generation=generation.decode(),
            sequence=int(sequence),
            type_sequences=decode_type_sequences(types),
        )
        if state.cursor == START:
            # Perhaps all keys are gone, the deployment's own among them; then somebody may have made another one.
            await check_deployment(server)
        return state

    async def renew(self, states: Sequence[PartitionState]) -> list[bool]:
        """Keep partitions for another lease time; False for each that was lost.

        Of several nodes one may not answer: its partitions count as kept, for nobody can take them from there.

        Raises:
            Unavailable: no node answers.

        """
        server = self._server
        calls = (
            server.scripts.renew.run(
                server.calls(state.partition), [keys.lease, keys.partition], (state.token, self._lease_ms)
            )
            for state, keys in ((state, server.partition(state.partition)) for state in states)
        )
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if len(failures) == len(answers) or not isinstance(failure, Unavailable):
                raise failure
        return [bool(answer) for answer in answers]

    async def release(self, states: Sequence[PartitionState]) -> None:
        """Give partitions up, and ring the bell for who waits for them."""
        server = self._server
        calls = (
            server.scripts.release.run(
                server.calls(state.partition), [server.partition(state.partition).lease], [state.token]
            )
            for state in states
        )
        await asyncio.gather(*calls)
        if states:
            await self._ring("partitions")

    async def changes(self) -> AsyncIterator[None]:
        """Yield once when nothing can be missed any more, then whenever a worker came, left or released something.

        Raises:
            Unavailable: the connection was lost.

        """
        subscription = await self._channels.hear_changes()
        try:
            yield
            async for _ in subscription:
                yield
        finally:
            await subscription.aclose()

    async def tidy(self, states: Sequence[PartitionState]) -> None:
        """Trim the events of partitions and show their progress to standard tools, off the hot path."""
        await asyncio.gather(*(self._tidy(state) for state in states))

    @property
    def _lease_ms(self) -> int:
        return int(self._server.settings.lease * 1000)

    async def _tidy(self, state: PartitionState) -> None:
        calls, keys = self._server.calls(state.partition), self._server.partition(state.partition)
        await calls.call("XTRIM", keys.events, "MAXLEN", "~", self._server.settings.event_retention)
        try:
            await calls.call("XGROUP", "SETID", keys.commands, GROUP, state.cursor)
        except ResponseError:
            # The first time there is no such group, and perhaps no such stream.
            await calls.call("XGROUP", "CREATE", keys.commands, GROUP, state.cursor, "MKSTREAM")

    async def _ring(self, what: str) -> None:
        await self._server.registry.call("PUBLISH", self._server.keys.changes, what)


def _made_otherwise(error: ResponseError, partition: int, server: Server) -> Exception:
    code, *made = str(error).split()
    if code != "LAYOUT":
        return error
    return ConfigurationError(
        f"Partition {partition} at {server.where} was made for {made[0]} partitions and layout {made[1]}, "
        f"this program is set to {len(server.keys.partitions)} and {LAYOUT}: set TURNSTREAM_PARTITIONS to {made[0]}",
    )
