"""Publication after confirmation (design §7): replies and live events wait until the batch is durable.

A separate connection writes a field and waits until this write, and so every earlier one, has reached the replicas or
the disk (WAIT, WAITAOF). The batches that were committed before the wait are then published together.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError, RedisError, ResponseError

from turnstream.adapters.redis.commit.batch_encoder import publications
from turnstream.adapters.redis.connection.cluster import Cluster
from turnstream.adapters.redis.connection.connector import answer
from turnstream.adapters.redis.connection.pipelined import Word, pack
from turnstream.adapters.redis.server import Server
from turnstream.backoff import Backoff
from turnstream.codec.events import decode_event
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.logging import get_logger
from turnstream.ports import PartitionState
from turnstream.settings import Settings

log = get_logger(__name__)

MAX_UNPUBLISHED = 64
"""Batches that may wait for publication. If there are more, commits wait as well."""

WAIT_MS = 1_000
"""Milliseconds of one wait; it is repeated until it succeeds."""

CLOSING_GRACE_S = 2.0
"""Seconds for which closing waits for unpublished batches."""

EVENTS_PER_READ = 1_000
"""Events that a new owner reads at a time, of those that its predecessor could not publish."""


class PendingPublication(msgspec.Struct, frozen=True):
    """A committed, unpublished batch: the state of the partition after it, and its channels with payloads."""

    state: PartitionState
    events: Sequence[Word]
    replies: Sequence[Word]


class DurabilityGate:
    """Publishes batches after they are durable: on one server all together, in a cluster each partition separately."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server
        self._queues: dict[int | None, _ConfirmationQueue] = {}

    async def add(self, pending: PendingPublication) -> None:
        """Publish a batch later. The call waits while too many batches wait."""
        partition = pending.state.partition
        queue = self._queue(partition)
        if queue not in self._queues:
            numbers = range(len(self._server.keys.partitions)) if queue is None else [partition]
            self._queues[queue] = _ConfirmationQueue(
                self._server, [self._server.partition(n).partition for n in numbers]
            )
        await self._queues[queue].add(pending)

    async def take_over(self, state: PartitionState, stable: int) -> None:
        """Publish the events after `stable`, which the previous owner could not publish.

        Replies cannot be published again: a client that resends its command gets the recorded outcome.
        """
        server, keys = self._server, self._server.partition(state.partition)
        while stable < state.sequence:
            span = (f"{stable + 1}-0", f"{state.sequence}-0")
            rows = await server.calls(state.partition).call("XRANGE", keys.events, *span, "COUNT", EVENTS_PER_READ)
            words: list[Word] = []
            for _, (_, payload) in rows:
                event = decode_event(payload)
                if event:
                    words += publications(server.keys.live_channels(keys, event.type, event.session_id), payload)
            # Events that retention has trimmed cannot be published.
            stable = int(rows[-1][0].partition(b"-")[0]) if len(rows) == EVENTS_PER_READ else state.sequence
            await self.add(PendingPublication(replace(state, sequence=stable), words, ()))

    async def drain(self, partitions: Iterable[int]) -> None:
        """Wait a little until all batches of partitions are published: after a release, this owner may not publish."""
        await asyncio.gather(
            *{queue.drain() for queue in {self._queues.get(self._queue(p)) for p in partitions} if queue}
        )

    async def aclose(self) -> None:
        """Wait a little for unpublished batches, then end."""
        await asyncio.gather(*(queue.aclose() for queue in self._queues.values()))

    def _queue(self, partition: int) -> int | None:
        return partition if isinstance(self._server.topology, Cluster) else None


class _ConfirmationQueue:
    """The batches that one server has to confirm."""

    def __init__(self, server: Server, keys: Sequence[str]) -> None:
        """Take the hashes of its partitions: one is written to, or the next if that key has another type."""
        self._server = server
        self._keys = deque(keys)
        self._confirm, self._wanted = _confirmation(server.settings)
        self._pending: list[PendingPublication] = []
        self._room = asyncio.Semaphore(MAX_UNPUBLISHED)
        self._idle = asyncio.Event()
        self._idle.set()
        self._refused: ConfigurationError | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: AbstractConnection | None = None
        self._answered_at = 0.0

    async def add(self, pending: PendingPublication) -> None:
        await self._room.acquire()
        if self._refused:
            self._room.release()
            raise self._refused
        self._idle.clear()
        self._pending.append(pending)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="confirming")

    async def drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_GRACE_S):
                await self._idle.wait()

    async def aclose(self) -> None:
        await self.drain()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._disconnect()

    async def _run(self) -> None:
        try:
            while self._pending:
                batches, self._pending = self._pending, []
                try:
                    await self._publish_when_confirmed(batches)
                finally:
                    for _ in batches:
                        self._room.release()
        except ConfigurationError as error:
            self._refused = error
        finally:
            self._task = None
            self._idle.set()

    async def _publish_when_confirmed(self, batches: Sequence[PendingPublication]) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._confirmed()
                for batch in batches:
                    await self._publish(batch)
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing is published before it is durable
                await self._disconnect()
                if isinstance(error, MovedError):
                    await self._follow()
                if not backoff.failing:
                    log.warning("writes are not confirmed, so they are not published yet", error=str(error))
            else:
                return
            await asyncio.sleep(backoff.failed())

    async def _confirmed(self) -> None:
        """Return after the server has confirmed all earlier writes.

        Raises:
            Unavailable: it has not, yet.

        """
        heartbeat, now = self._server.settings.heartbeat, asyncio.get_running_loop().time
        if now() - self._answered_at > heartbeat:
            # The connection was idle for so long that it may be dead without a sign.
            await self._disconnect()
        if self._connection is None:
            self._connection = await self._server.topology.connect(self._keys[0])
        # A wait on a connection that has written nothing proves nothing.
        write = pack(("HSET", self._keys[0], "confirming", self._server.settings.durability))
        await self._connection.send_packed_command([write, pack(self._confirm)])
        async with asyncio.timeout(WAIT_MS / 1_000 + heartbeat):
            try:
                await answer(self._connection)
            except ResponseError:
                self._keys.rotate(-1)
                raise
            confirmed: Any = await answer(self._connection)
        self._answered_at = now()
        # WAITAOF counts the server's own disk first, and then the replicas'.
        by: int = confirmed[0] if self._confirm[0] == "WAITAOF" else confirmed
        if by < self._wanted:
            raise Unavailable(f"{by} of {self._wanted} have them")

    async def _follow(self) -> None:
        """Correct the route to the key, as any call on it does."""
        with suppress(Unavailable):
            await self._server.topology.calls(self._keys[0]).call("EXISTS", self._keys[0])

    async def _publish(self, batch: PendingPublication) -> None:
        server, state = self._server, batch.state
        words = (state.token, state.replication_id, state.sequence, len(batch.events), *batch.events, *batch.replies)
        try:
            await server.scripts.settle.run(server.calls(state.partition), [self._key_of(state)], words)
        except ResponseError as error:
            # Another owner publishes its events, or the partition is gone.
            log.info("batch not published", partition=state.partition, reason=str(error))

    def _key_of(self, state: PartitionState) -> str:
        return self._server.partition(state.partition).partition

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError):
                await connection.disconnect(nowait=True)


def _confirmation(settings: Settings) -> tuple[tuple[Word, ...], int]:
    """Return the command that waits, and the number of servers that must confirm."""
    if settings.durability == "fsync":
        return ("WAITAOF", 1, 0, WAIT_MS), 1
    return ("WAIT", settings.replicas, WAIT_MS), settings.replicas
