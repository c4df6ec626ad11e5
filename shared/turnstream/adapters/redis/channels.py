"""Publish and subscribe: a doorbell, lossy by nature (design §6)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from turnstream.adapters.redis.connection import answer, opened, raise_for
from turnstream.adapters.redis.server import Server
from turnstream.domain.events import EVENTS
from turnstream.errors import Unavailable


class RedisSubscription:
    """The payloads of some channels, over a connection of their own."""

    def __init__(self, connection: AbstractConnection, where: str) -> None:
        """Listen on a connection that is subscribed."""
        self._connection = connection
        self._where = where
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

    def _raise_unless_closed(self, error: Exception) -> None:
        if not self._closed:
            raise Unavailable(f"The subscription at {self._where} was lost: {error}") from error

    async def aclose(self) -> None:
        """End it."""
        self._closed = True
        with suppress(RedisError):
            await self._connection.disconnect(nowait=True)


class RedisChannels:
    """Exact channels on a standalone server: patterns would cost every publisher."""

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
        """Return the channels that carry these types of event (none: all), or the events of one session."""
        if session_id is not None:
            return [self._server.keys.session_channel(session_id)]
        return [self._server.keys.event_channel(name) for name in types or EVENTS]

    async def subscribe(self, channels: Sequence[str]) -> RedisSubscription:
        """Listen; on return nothing published from now on is missed."""
        connection = await opened(self._server.connect, self._server.where)
        try:
            await connection.send_command("SUBSCRIBE", *channels)
            for _ in channels:
                await connection.read_response()
        except RedisError as error:
            await connection.disconnect(nowait=True)
            raise_for(error)
        return RedisSubscription(connection, self._server.where)
