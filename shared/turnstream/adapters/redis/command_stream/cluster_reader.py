"""Reading the command streams of a cluster: one blocking reader a partition, for no read can span slots (design §2)."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

from turnstream.adapters.redis.command_stream.standalone_reader import entry_of
from turnstream.adapters.redis.connection.addresses import Address
from turnstream.adapters.redis.connection.cluster import Cluster
from turnstream.adapters.redis.connection.connector import answer, raise_for
from turnstream.adapters.redis.connection.pipelined import pack
from turnstream.adapters.redis.connection.slots import slot_of
from turnstream.adapters.redis.server import Server
from turnstream.backoff import Backoff
from turnstream.errors import KeyUnusable, Unavailable
from turnstream.logging import get_logger
from turnstream.ports import RawEntry

log = get_logger(__name__)

BLOCK = 2.5
"""Seconds that a partition's reader waits at the server: longer than a `read`, for an idle partition to cost little."""


class ClusterStreamReader:
    """Readers that keep waiting between two calls of `read`, and keep their entries for the next call."""

    def __init__(self, server: Server, cluster: Cluster) -> None:
        """Use a cluster; a partition's reader is made when it is first asked for."""
        self._server = server
        self._cluster = cluster
        self._readers: dict[int, _PartitionReader] = {}
        self._arrived = asyncio.Event()
        self._waits = False
        self._woken = False

    async def read(self, cursors: Mapping[int, str], count: int, block: float) -> Mapping[int, Sequence[RawEntry]]:
        """Return the entries after the cursors, as soon as any partition has some.

        A partition whose node does not answer has no entries until it does; the others are read.
        """
        for number in self._readers.keys() - cursors.keys():
            self._readers[number].forget()
        self._woken = False
        self._waits = True
        try:
            async with asyncio.timeout(block):
                while True:
                    self._arrived.clear()
                    found = self._found(cursors, count)
                    if found or self._woken:
                        return found
                    await self._arrived.wait()
        except TimeoutError:
            return self._found(cursors, count)
        finally:
            self._waits = False

    async def wake(self) -> None:
        """End a `read` that waits; the readers wait on."""
        if self._waits:
            self._woken = True
            self._arrived.set()

    async def aclose(self) -> None:
        """End the readers."""
        await self.wake()
        await asyncio.gather(*(reader.aclose() for reader in self._readers.values()))

    def _found(self, cursors: Mapping[int, str], count: int) -> dict[int, Sequence[RawEntry]]:
        asked = ((number, self._reader(number).ask(cursor, count)) for number, cursor in cursors.items())
        return {number: entries for number, entries in asked if entries}

    def _reader(self, number: int) -> "_PartitionReader":
        if number not in self._readers:
            self._readers[number] = _PartitionReader(self._server, self._cluster, number, self._arrived)
        return self._readers[number]


class _PartitionReader:
    """Reads one stream; a task waits at the server while nothing is there."""

    def __init__(self, server: Server, cluster: Cluster, number: int, arrived: asyncio.Event) -> None:
        self._cluster = cluster
        self._key = server.partition(number).commands
        self._heartbeat = server.settings.heartbeat
        self._arrived = arrived
        self._cursor = ""
        self._entries: Sequence[RawEntry] = ()
        self._failure: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._node: Address | None = None
        self._connection: AbstractConnection | None = None
        self._answered_at = 0.0

    def ask(self, cursor: str, count: int) -> Sequence[RawEntry]:
        """Return the entries read after a cursor; if there are none, start a read."""
        stale = None
        if cursor != self._cursor:
            self._cursor, self._entries, self._failure = cursor, (), None
            stale, self._task = self._task, None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        entries, self._entries = self._entries, ()
        if not entries and self._task is None:
            self._task = asyncio.create_task(self._read(cursor, count, stale), name="stream-reader")
        return entries[:count]

    def forget(self) -> None:
        """Drop the entries: no call asks for this partition now, and it may have another owner."""
        self._entries = ()

    async def aclose(self) -> None:
        """End the task and the connection."""
        if self._task is not None:
            await _ended(self._task)
        await self._disconnect()

    async def _read(self, cursor: str, count: int, stale: "asyncio.Task[None] | None") -> None:
        if stale is not None:
            # It reads after another cursor, on the same connection.
            await _ended(stale)
        entries: Sequence[RawEntry] = ()
        failure: Exception | None = None
        try:
            entries = await self._persistently(cursor, count)
        except Exception as error:  # noqa: BLE001 - `ask` raises it
            failure = error
        if self._task is not asyncio.current_task():
            # A call has asked for another cursor since: these entries are not the ones right after it.
            return
        self._entries, self._failure, self._task = entries, failure, None
        self._arrived.set()

    async def _persistently(self, cursor: str, count: int) -> Sequence[RawEntry]:
        """Read; while the stream's node does not answer, try again, and say so once."""
        backoff = Backoff()
        told = False
        while True:
            try:
                entries = await self._once(cursor, count)
            except MovedError:
                pass
            except Unavailable as error:
                if not told:
                    log.warning("command stream cannot be read", stream=self._key, error=str(error))
                told = True
            else:
                if told:
                    log.info("command stream can be read again", stream=self._key)
                return entries
            await asyncio.sleep(backoff.failed())

    async def _once(self, cursor: str, count: int) -> Sequence[RawEntry]:
        words = ("XREAD", "COUNT", count, "BLOCK", int(BLOCK * 1000), "STREAMS", self._key, cursor)
        node = await self._cluster.holder(slot_of(self._key))
        connection = await self._connected(node)
        try:
            async with asyncio.timeout(BLOCK + self._heartbeat):
                await connection.send_packed_command([pack(words)])
                streams = await answer(connection)
            self._answered_at = asyncio.get_running_loop().time()
        except MovedError as redirection:
            self._cluster.moved(redirection, node)
            raise
        except AskError:
            raise Unavailable("Its slot is on the way to another node") from None
        except (TimeoutError, RedisError) as error:
            await self._disconnect()
            raise self._meaning(error, node) from None
        except BaseException:
            # Whatever ended it, its answer must not be taken for that of the next read.
            await self._disconnect()
            raise
        return [entry_of(*row) for _, rows in streams or () for row in rows]

    def _meaning(self, error: TimeoutError | RedisError, node: Address) -> Exception:
        """Return what a failed read means, and doubt its node unless the stream is to blame."""
        failure: Exception = Unavailable(f"The server at {node} does not answer")
        try:
            if isinstance(error, RedisError):
                raise_for(error)
        except ResponseError:
            return KeyUnusable(self._key, str(error))
        except Exception as meant:  # noqa: BLE001 - returned
            failure = meant
        self._cluster.doubt(node)
        return failure

    async def _connected(self, node: Address) -> AbstractConnection:
        # A connection that was idle for long may be dead without a sign.
        rested = asyncio.get_running_loop().time() - self._answered_at > self._heartbeat
        if self._connection is None or self._node != node or rested:
            await self._disconnect()
            self._connection, self._node = await self._cluster.connect_to(node), node
            self._answered_at = asyncio.get_running_loop().time()
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError):
                await connection.disconnect(nowait=True)


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
