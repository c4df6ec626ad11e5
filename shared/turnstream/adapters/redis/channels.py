"""Publish and subscribe: a doorbell, lossy by nature (design §6)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from turnstream.adapters.redis.pinging import Pings
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.sharded import by_node, subscribe_sharded
from turnstream.adapters.redis.topology.cluster import Cluster
from turnstream.adapters.redis.topology.connection import answer, raise_for
from turnstream.application.routing import partition_of
from turnstream.domain.events import EVENTS
from turnstream.errors import Unavailable
from turnstream.ports import Subscription


class RedisSubscription:
    """The payloads of some channels, over a connection of their own."""

    def __init__(self, connection: AbstractConnection, where: str, timeout: float) -> None:
        """Listen on a connection that is subscribed; a ping is answered within `timeout` seconds."""
        self._connection = connection
        self._where = where
        self._pings = Pings(connection, where, timeout)
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (channel, payload).

        Raises:
            Unavailable: the connection was lost.

        """
        while not self._closed:
            try:
                kind, *rest = await answer(self._connection)
            except (RedisError, OSError) as error:
                self._raise_unless_closed(error)
                return
            if kind == b"message":
                channel, payload = rest
                yield channel.decode(), payload
            elif kind == b"pong":
                self._pings.answer()

    async def ping(self) -> None:
        """Return when all that was published before has been taken out.

        Raises:
            Unavailable: the connection was lost, or the server does not answer.

        """
        await self._pings.ask()

    def _raise_unless_closed(self, error: Exception) -> None:
        if not self._closed:
            raise Unavailable(f"The subscription at {self._where} was lost: {error}") from error

    async def aclose(self) -> None:
        """End it."""
        self._closed = True
        with suppress(RedisError):
            await self._connection.disconnect(nowait=True)


class RedisChannels:
    """Exact channels on one server, where patterns would cost every publisher; in a cluster, sharded ones."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    def reply_channel(self, partition: int, client_id: str) -> str:
        """Return the channel on which a client gets its replies from a partition."""
        return self._server.partition(partition).reply_channel(client_id)

    def is_reply_channel(self, partition: int, channel: str) -> bool:
        """Tell whether a channel is for replies from this partition."""
        return self._server.partition(partition).is_reply_channel(channel)

    def event_channels(self, types: Sequence[str], session_id: str | None) -> list[str]:
        """Return the channels that carry these types of event (none: all), or the events of one session.

        In a cluster they carry others as well, for there is one for each partition.
        """
        keys = self._server.keys
        if keys.sharded:
            partitions = keys.partitions
            return [partitions[number].live for number in _partitions(session_id, len(partitions))]
        if session_id is not None:
            return [keys.session_channel(session_id)]
        return [keys.event_channel(name) for name in types or EVENTS]

    async def grouped(self, channels: Sequence[str]) -> list[list[str]]:
        """Return channels by the node on which they lie now."""
        topology = self._server.topology
        if isinstance(topology, Cluster):
            return list((await by_node(topology, channels)).values())
        return [list(channels)]

    async def subscribe(self, channels: Sequence[str]) -> Subscription:
        """Listen; on return nothing published from now on is missed."""
        topology = self._server.topology
        if isinstance(topology, Cluster):
            timeout = self._server.settings.response_timeout
            return await subscribe_sharded(topology, self._server.where, channels, timeout)
        return await self._subscribe(channels)

    async def hear_changes(self, channel: str) -> Subscription:
        """Listen to what members announce: on a channel that is not sharded, for a cluster's nodes pass it on."""
        return await self._subscribe([channel])

    async def _subscribe(self, channels: Sequence[str]) -> RedisSubscription:
        where, timeout = self._server.where, self._server.settings.response_timeout
        connection = await self._server.topology.connect(self._server.keys.workers)
        try:
            async with asyncio.timeout(timeout):
                await connection.send_command("SUBSCRIBE", *channels)
                for _ in channels:
                    await connection.read_response()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise Unavailable(f"The server at {where} did not answer within {timeout:g} s") from None
            if isinstance(error, RedisError):
                raise_for(error)
            raise
        return RedisSubscription(connection, where, timeout)


def _partitions(session_id: str | None, partitions: int) -> Sequence[int]:
    return range(partitions) if session_id is None else (partition_of(session_id, partitions),)
