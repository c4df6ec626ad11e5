"""A connection without streams and tasks: each reply is handled in the event loop's callback that receives it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from turnstream.adapters.redis.connection.heartbeat import Heartbeat

GRACE = 1.0
"""Seconds to wait until an encrypted connection is closed."""

_NOTHING = object()


class Transport(asyncio.Protocol):
    """Takes over an open connection of redis-py that has no request in flight.

    redis-py reads from a stream, in a task that must be woken. That takes longer than the rest of a short request.
    """

    def __init__(
        self, connection: AbstractConnection, answered: Callable[[Any], None], lost: Callable[[RedisError], None]
    ) -> None:
        """Call `answered` with each reply, and `lost` once when the connection has ended.

        Args:
            connection: the open connection.
            answered: called with each reply; an error reply is passed as an exception.
            lost: called with the reason; not called after `close`.

        """
        self.answered = answered
        self._lost = lost
        self._connection = connection
        self._gone = asyncio.Event()
        error_of = cast("Callable[[str], Exception]", DefaultParser.parse_error)
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=error_of, notEnoughData=_NOTHING)
        writer = cast("asyncio.StreamWriter", connection._writer)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._transport = writer.transport
        self._transport.set_protocol(self)
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        """The event loop's time of the last bytes received, in seconds."""
        self._heartbeat: Heartbeat | None = None

    def watch(self, heartbeat: float, asked_at: Callable[[], float | None], ask: Callable[[], None]) -> None:
        """Detect a dead connection by heartbeats, and end it; the arguments are those of `Heartbeat`."""
        self._heartbeat = Heartbeat(self, heartbeat, asked_at, ask)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed, so that nothing can be sent."""
        return self._transport.is_closing()

    def send(self, packed: bytes) -> None:
        """Send one or several commands. On a closed connection this does nothing: `lost` reports the loss."""
        if not self._transport.is_closing():
            self._transport.write(packed)

    async def aclose(self) -> None:
        """Close the connection without calling `lost`, and wait up to `GRACE` seconds until it is closed."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._gone.wait()

    def close(self) -> None:
        """Close the connection without calling `lost`."""
        self.answered = self._lost = _ignore
        if self._heartbeat is not None:
            self._heartbeat.stop()
        # `disconnect`, the public method, is a coroutine and would need a task.
        self._connection._close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def give_up(self, reason: str) -> None:
        """Abort a dead connection, discard its unsent bytes, and call `lost` with the reason."""
        transport = self._transport
        self._end(RedisTimeoutError(reason))
        transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and call `answered` with each complete reply."""
        self.heard_at = self._loop.time()
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOTHING:
                if isinstance(answer, RedisConnectionError):
                    raise answer  # noqa: TRY301 - it concerns the whole connection, for example while the server loads
                self.answered(answer)
        except Exception as error:  # noqa: BLE001 - after any failure the position in the byte stream is unknown
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Call `lost`: the connection has ended."""
        self._gone.set()
        self._end(exc or RedisConnectionError("closed by the server"))

    def _end(self, error: Exception) -> None:
        lost = self._lost
        self.close()
        lost(error if isinstance(error, RedisError) else RedisConnectionError(repr(error)))


def _ignore(_: object) -> None:
    pass
