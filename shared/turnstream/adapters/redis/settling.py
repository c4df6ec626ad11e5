"""Who is told of a batch, and when (design §7): in the stricter modes only when its writes are safe.

A connection of its own writes something, and waits until that, and with it all that was written before, has reached the
replicas or the disk. The batches that were committed before the wait are then told of together.
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

from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.topology.cluster import Cluster
from turnstream.adapters.redis.topology.connection import Word, answer, pack
from turnstream.adapters.redis.writing import told
from turnstream.backoff import Backoff
from turnstream.codec.events import decode_event
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.ports import PartitionState
from turnstream.settings import Settings
from turnstream.telemetry import get_logger

log = get_logger(__name__)

MOST_UNTOLD = 64
"""Batches that may wait to be told of; then commits wait, too."""

WAIT_MS = 1_000
"""Milliseconds of one wait; it is repeated until it succeeds."""

GRACE = 2.0
"""Seconds for which closing waits for what is not told yet."""

PIECE = 1_000
"""Events that a new owner reads at a time, of those that the one before could not tell of."""


class Untold(msgspec.Struct, frozen=True):
    """A committed batch: where the partition stood behind it, and channels and payloads of its events and replies."""

    state: PartitionState
    events: Sequence[Word]
    replies: Sequence[Word]


class Settling:
    """Tells of batches when they are safe: on one server all together, in a cluster each partition by itself."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server
        self._places: dict[int | None, _Place] = {}

    async def add(self, untold: Untold) -> None:
        """Tell of a batch later; waits while too many wait."""
        partition = untold.state.partition
        place = self._place(partition)
        if place not in self._places:
            numbers = range(len(self._server.keys.partitions)) if place is None else [partition]
            self._places[place] = _Place(self._server, [self._server.partition(n).partition for n in numbers])
        await self._places[place].add(untold)

    async def take_over(self, state: PartitionState, stable: int) -> None:
        """Tell of the events behind `stable`, of which the owner before could not.

        Replies cannot be told again: a client that asks again for its command gets the recorded outcome.
        """
        server, keys = self._server, self._server.partition(state.partition)
        while stable < state.sequence:
            span = (f"{stable + 1}-0", f"{state.sequence}-0")
            rows = await server.calls(state.partition).call("XRANGE", keys.events, *span, "COUNT", PIECE)
            words: list[Word] = []
            for _, (_, payload) in rows:
                event = decode_event(payload)
                if event:
                    words += told(server.keys.live_channels(keys, event.type, event.session_id), payload)
            # What retention has taken meanwhile cannot be told.
            stable = int(rows[-1][0].partition(b"-")[0]) if len(rows) == PIECE else state.sequence
            await self.add(Untold(replace(state, sequence=stable), words, ()))

    async def told(self, partitions: Iterable[int]) -> None:
        """Wait a little until all batches of partitions are told: who releases them cannot tell any more."""
        await asyncio.gather(
            *{place.told() for place in {self._places.get(self._place(p)) for p in partitions} if place}
        )

    async def aclose(self) -> None:
        """Wait a little for what is not told yet, then end."""
        await asyncio.gather(*(place.aclose() for place in self._places.values()))

    def _place(self, partition: int) -> int | None:
        return partition if isinstance(self._server.topology, Cluster) else None


class _Place:
    """What is to be confirmed by one server."""

    def __init__(self, server: Server, keys: Sequence[str]) -> None:
        """Take the hashes of its partitions: one is written to, and the next where something else stands there."""
        self._server = server
        self._keys = deque(keys)
        self._confirm, self._wanted = _confirmation(server.settings)
        self._untold: list[Untold] = []
        self._room = asyncio.Semaphore(MOST_UNTOLD)
        self._idle = asyncio.Event()
        self._idle.set()
        self._misfit: ConfigurationError | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: AbstractConnection | None = None
        self._answered_at = 0.0

    async def add(self, untold: Untold) -> None:
        await self._room.acquire()
        if self._misfit:
            self._room.release()
            raise self._misfit
        self._idle.clear()
        self._untold.append(untold)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="settling")

    async def told(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._idle.wait()

    async def aclose(self) -> None:
        await self.told()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._disconnect()

    async def _run(self) -> None:
        try:
            while self._untold:
                batches, self._untold = self._untold, []
                try:
                    await self._persistently(batches)
                finally:
                    for _ in batches:
                        self._room.release()
        except ConfigurationError as error:
            self._misfit = error
        finally:
            self._task = None
            self._idle.set()

    async def _persistently(self, batches: Sequence[Untold]) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._confirmed()
                for batch in batches:
                    await self._tell(batch)
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody is told before it is safe
                await self._disconnect()
                if isinstance(error, MovedError):
                    await self._follow()
                if not backoff.failing:
                    log.warning("writes are not confirmed, nobody is told of them yet", error=str(error))
            else:
                return
            await asyncio.sleep(backoff.failed())

    async def _confirmed(self) -> None:
        """Return when all that was written before is safe.

        Raises:
            Unavailable: it is not yet.

        """
        heartbeat, now = self._server.settings.heartbeat, asyncio.get_running_loop().time
        if now() - self._answered_at > heartbeat:
            # It has rested for so long that it may be dead, and nobody has noticed.
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
        """Have the way to the key corrected, as any call on it does."""
        with suppress(Unavailable):
            await self._server.topology.calls(self._keys[0]).call("EXISTS", self._keys[0])

    async def _tell(self, batch: Untold) -> None:
        server, state = self._server, batch.state
        words = (state.token, state.replication_id, state.sequence, len(batch.events), *batch.events, *batch.replies)
        try:
            await server.scripts.settle.run(server.calls(state.partition), [self._key_of(state)], words)
        except ResponseError as error:
            # Another owner tells of its events, or it is gone.
            log.info("batch not told of", partition=state.partition, reason=str(error))

    def _key_of(self, state: PartitionState) -> str:
        return self._server.partition(state.partition).partition

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError):
                await connection.disconnect(nowait=True)


def _confirmation(settings: Settings) -> tuple[tuple[Word, ...], int]:
    """Return the command that waits, and how many must confirm."""
    if settings.durability == "fsync":
        return ("WAITAOF", 1, 0, WAIT_MS), 1
    return ("WAIT", settings.replicas, WAIT_MS), settings.replicas
