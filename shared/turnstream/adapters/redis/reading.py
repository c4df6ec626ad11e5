"""Reading the command streams of one server: all partitions by one blocking call (design §3)."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.topology.connection import Word, answer, pack, raise_for
from turnstream.errors import Unavailable
from turnstream.ports import RawEntry

BLOCK_MARGIN = 5.0
"""Seconds that the server may take to answer beyond the time for which it was asked to block."""


class SharedReading:
    """One connection, opened by the first read."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server
        self._numbers = {keys.commands.encode(): number for number, keys in enumerate(server.keys.partitions)}
        self._reader: AbstractConnection | None = None
        self._reading: asyncio.Timeout | None = None
        self._woken = False

    async def read(self, cursors: Mapping[int, str], count: int, block: float) -> Mapping[int, Sequence[RawEntry]]:
        """Return up to `count` entries a partition behind its cursor; wait up to `block` seconds for the first."""
        streams = [self._server.partition(partition).commands for partition in cursors]
        words: tuple[Word, ...] = (
            "XREAD",
            "COUNT",
            count,
            "BLOCK",
            max(1, int(block * 1000)),
            "STREAMS",
            *streams,
            *cursors.values(),
        )
        streams_read = await self._blocking(words, block + BLOCK_MARGIN)
        return {self._numbers[key]: [entry_of(*row) for row in rows] for key, rows in streams_read or ()}

    async def wake(self) -> None:
        """End a `read` that waits: its connection is given up, for the answer may still come."""
        if self._reading is not None:
            self._woken = True
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        """Close the connection."""
        await self.wake()
        await self._disconnect()

    async def _blocking(self, words: Sequence[Word], timeout: float) -> Any:  # noqa: ANN401
        """Return the answer to a command that may wait; `None` where `wake` ended it."""
        self._woken = False
        try:
            async with asyncio.timeout(timeout) as self._reading:
                if self._reader is None:
                    self._reader = await self._server.topology.connect(self._server.keys.workers)
                await self._reader.send_packed_command([pack(words)])
                return await answer(self._reader)
        except (TimeoutError, RedisError) as error:
            await self._disconnect()
            if self._woken:
                return None
            if isinstance(error, RedisError):
                raise_for(error)
            raise Unavailable(f"The server at {self._server.where} does not answer") from None
        except BaseException:
            # Whatever ended it, its answer must not be taken for that of the next read.
            await self._disconnect()
            raise
        finally:
            self._reading = None

    async def _disconnect(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(RedisError):
                await reader.disconnect(nowait=True)


def entry_of(entry_id: bytes, pairs: Sequence[bytes]) -> RawEntry:
    """Return an entry as `XREAD` gives it."""
    each = iter(pairs)
    return RawEntry(entry_id.decode(), dict(zip(each, each, strict=True)))
