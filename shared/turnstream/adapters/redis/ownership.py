"""Leases, fencing tokens and heartbeats (design §5)."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from turnstream.adapters.redis.channels import RedisChannels
from turnstream.adapters.redis.checks import check_deployment
from turnstream.adapters.redis.keys import LAYOUT
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.settling import Settling
from turnstream.codec.records import decode_type_sequences
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.ports import START, PartitionState
from turnstream.telemetry import get_logger

GROUP = "turnstream"
"""The consumer group that shows a partition's progress to standard tools; nobody reads through it."""

GENERATION_BYTES = 8
TOKEN_BYTES = 4

log = get_logger(__name__)


class RedisOwnership:
    """Who applies the commands of which partition, by scripts on each partition's lease and hash."""

    def __init__(self, server: Server, channels: RedisChannels, settling: Settling | None) -> None:
        """Use a server; with `settling`, what a former owner could not tell of is told by that."""
        self._server = server
        self._channels = channels
        self._settling = settling
        self._tokens: dict[tuple[int, str], str] = {}
        self._alive: dict[str, str] = {}
        self._suspect: tuple[str, str] | None = None

    async def beat(self, worker_id: str) -> Sequence[str]:
        """Announce that a worker lives; return all live workers."""
        server = self._server
        own = await server.registry.call("CLIENT", "ID") if server.knows_replication else ""
        arguments = (worker_id, own, self._lease_ms, server.keys.changes)
        answer: list[bytes] = await server.scripts.beat.run(server.registry, [server.keys.workers], arguments)
        self._alive = {i.decode(): c.decode() for i, c in zip(answer[::2], answer[1::2], strict=True)}
        return list(self._alive)

    async def watch(self, worker_id: str) -> None:
        """Look whether the worker next to this one has a connection; without one at two looks, it is forgotten."""
        suspect = self._next_to(worker_id)
        if suspect is None or await self._is_connected(suspect[1]):
            self._suspect = None
        elif suspect != self._suspect:
            # It may be opening another one just now.
            self._suspect = suspect
        else:
            log.warning("worker lost its connection, its partitions are free", lost=suspect[0])
            await self._forget(*suspect)

    async def depart(self, worker_id: str) -> None:
        """Announce that a worker leaves."""
        await self._forget(worker_id)

    async def take(self, partition: int, worker_id: str) -> PartitionState | None:
        """Become the owner of a partition that is free, or was this worker's before; `None` while it has another owner.

        Raises:
            ConfigurationError: the partition or the deployment has another number of partitions or layout.

        """
        server = self._server
        answer = await self._taken(partition, worker_id)
        if len(answer) == 1 and _worker_of(answer[0].decode()) == worker_id:
            # It was this worker who took it, and the answer was lost.
            self._tokens[partition, worker_id] = answer[0].decode()
            answer = await self._taken(partition, worker_id)
        if len(answer) == 1 and not await self._is_registered(_worker_of(answer[0].decode())):
            # Its owner is dead or was forgotten; should it live, the token fences it.
            answer = await self._taken(partition, worker_id, dead_owner=answer[0].decode())
        if len(answer) == 1:
            return None
        token, replication_id, cursor, generation, sequence, types, suspects, stable = answer
        self._tokens[partition, worker_id] = token.decode()
        state = PartitionState(
            partition=partition,
            token=token.decode(),
            replication_id=replication_id.decode(),
            cursor=cursor.decode(),
            generation=generation.decode(),
            sequence=int(sequence),
            type_sequences=decode_type_sequences(types),
            # No more than were in its hands.
            suspects=min(suspects, server.settings.batch_commands),
        )
        if state.cursor == START:
            # Perhaps all keys are gone, the deployment's own among them; then somebody may have made another one.
            await check_deployment(server)
        if self._settling:
            await self._settling.take_over(state, int(stable))
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
        """Give partitions up, and ring the bell for who waits for them.

        Of several nodes one may not answer: what the others hold is given up and announced all the same.

        Raises:
            Unavailable: something could not be given up or announced; leases run out by themselves.

        """
        server = self._server
        if self._settling:
            await self._settling.told(state.partition for state in states)
        calls = (
            server.scripts.release.run(server.calls(state.partition), [keys.lease, keys.partition], [state.token])
            for state, keys in ((state, server.partition(state.partition)) for state in states)
        )
        answers = await asyncio.gather(*calls, return_exceptions=True)
        if states:
            await self._ring("partitions")
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

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

    async def _taken(self, partition: int, worker_id: str, dead_owner: str = "") -> list[Any]:
        server, keys = self._server, self._server.partition(partition)
        own_before = self._tokens.get((partition, worker_id), "")
        arguments = (
            *(own_before, f"{worker_id}-{secrets.token_hex(TOKEN_BYTES)}", self._lease_ms),
            *(len(server.keys.partitions), LAYOUT, secrets.token_hex(GENERATION_BYTES)),
            *(int(server.knows_replication), dead_owner, int(self._settling is not None)),
        )
        try:
            answer: list[Any] = await server.scripts.take.run(
                server.calls(partition),
                [keys.lease, keys.partition, keys.commands],
                arguments,
            )
        except ResponseError as error:
            raise _made_otherwise(error, partition, server) from error
        return answer

    def _next_to(self, worker_id: str) -> tuple[str, str] | None:
        """Return the worker that this one watches, alone itself, and its connection: all together watch all."""
        if worker_id not in self._alive:
            return None
        workers = sorted(self._alive)
        neighbour = workers[(workers.index(worker_id) + 1) % len(workers)]
        connection = self._alive[neighbour]
        same_server = connection.partition(":")[0] == self._alive[worker_id].partition(":")[0]
        return (neighbour, connection) if connection and same_server else None

    async def _is_connected(self, connection: str) -> bool:
        return bool(await self._server.registry.call("CLIENT", "LIST", "ID", connection.rpartition(":")[2]))

    async def _is_registered(self, worker_id: str) -> bool:
        return bool(await self._server.registry.call("HEXISTS", self._server.keys.workers, worker_id))

    async def _forget(self, worker_id: str, connection: str = "") -> None:
        keys = self._server.keys
        arguments = (worker_id, connection, keys.changes)
        await self._server.scripts.forget.run(self._server.registry, [keys.workers], arguments)

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


def _worker_of(token: str) -> str:
    """Return the worker's id in a token: `<epoch>-<worker id>-<random>`."""
    return token.partition("-")[2].rpartition("-")[0]


def _made_otherwise(error: ResponseError, partition: int, server: Server) -> Exception:
    code, *made = str(error).split()
    if code != "LAYOUT":
        return error
    return ConfigurationError(
        f"Partition {partition} at {server.where} was made for {made[0]} partitions and layout {made[1]}, "
        f"this program is set to {len(server.keys.partitions)} and {LAYOUT}: set TURNSTREAM_PARTITIONS to {made[0]}",
    )
