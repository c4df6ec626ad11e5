"""A connection without streams and tasks: an answer is taken in the turn of the event loop that brings it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from turnstream.adapters.redis.topology.heartbeat import Heartbeat

GRACE = 1.0
"""Seconds that the end of an encrypted connection may take."""

_NOTHING = object()


class Wire(asyncio.Protocol):
    """Takes over an open connection on which nothing is under way.

    redis-py reads from a stream, in a task that has to be woken: most of the time that a short answer takes.
    """

    def __init__(
        self, connection: AbstractConnection, answered: Callable[[Any], None], lost: Callable[[RedisError], None]
    ) -> None:
        """Tell `answered` each answer, an error reply as an exception, and `lost`, once, why there come no more."""
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
        """When something came last, by the event loop's clock."""
        self._heartbeat: Heartbeat | None = None

    def watch(self, heartbeat: float, asked_at: Callable[[], float | None], ask: Callable[[], None]) -> None:
        """Give it up when it is dead; the arguments are those of `Heartbeat`."""
        self._heartbeat = Heartbeat(self, heartbeat, asked_at, ask)

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing can be sent any more."""
        return self._transport.is_closing()

    def send(self, packed: bytes) -> None:
        """Send one command or several; if it cannot be sent any more, `lost` tells."""
        if not self._transport.is_closing():
            self._transport.write(packed)

    async def aclose(self) -> None:
        """Close it, and wait a little until it is; nobody is told."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._gone.wait()

    def close(self) -> None:
        """Close it; nobody is told."""
        self.answered = self._lost = _ignore
        if self._heartbeat is not None:
            self._heartbeat.stop()
        # Its public way to close needs a task.
        self._connection._close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def give_up(self, reason: str) -> None:
        """Close a connection that is dead, with what it has not sent, and tell `lost` why."""
        transport = self._transport
        self._end(RedisTimeoutError(reason))
        transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what the server has sent."""
        self.heard_at = self._loop.time()
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOTHING:
                if isinstance(answer, RedisConnectionError):
                    raise answer  # noqa: TRY301 - it is about the whole connection, such as that the server loads
                self.answered(answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, what comes next cannot be told apart any more
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that nothing comes any more."""
        self._gone.set()
        self._end(exc or RedisConnectionError("closed by the server"))

    def _end(self, error: Exception) -> None:
        lost = self._lost
        self.close()
        lost(error if isinstance(error, RedisError) else RedisConnectionError(repr(error)))


def _ignore(_: object) -> None:
    pass
