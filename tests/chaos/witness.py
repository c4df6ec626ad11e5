"""Somebody who looks at all partitions from time to time, past every proxy, and changes nothing."""

import asyncio
import time
from contextlib import suppress

from redis.exceptions import RedisError
from tests.chaos.history import Glimpse

from turnstream.adapters.redis.server import Server
from turnstream.errors import Unavailable

INTERVAL = 0.05
"""Seconds between two looks."""

LOOK = """
local found = redis.call('HMGET', KEYS[1], 'token', 'generation', 'cursor', 'sequence')
found[5] = redis.call('INFO', 'replication'):match('master_replid:(%w+)')
return found
"""
"""One moment of a partition, and whose: the replication id is that of the server that answers."""


class Witness:
    """Takes glimpses until it is stopped, and knows when workers went."""

    def __init__(self, server: Server) -> None:
        self.glimpses: list[Glimpse] = []
        self._server = server
        self._gone: list[tuple[str, float]] = []

    async def watch(self) -> None:
        """Look again and again, also at a server that comes back."""
        while True:
            for number in range(len(self._server.keys.partitions)):
                with suppress(Unavailable, RedisError):
                    await self._look(number)
            await asyncio.sleep(INTERVAL)

    def gone(self, worker: str) -> None:
        """Note that a worker was killed just now."""
        self._gone.append((worker, time.monotonic()))

    def takeovers(self) -> list[float]:
        """Return the seconds from each kill until no partition had the token of the dead, where it had any."""
        return [seconds for seconds in (self._takeover(*gone) for gone in self._gone) if seconds is not None]

    def _takeover(self, worker: str, at: float) -> float | None:
        owned = {g.partition for g in self._latest(at).values() if _owner(g) == worker}
        for glimpse in self.glimpses:
            if glimpse.at > at and _owner(glimpse) != worker:
                owned.discard(glimpse.partition)
                if not owned:
                    return glimpse.at - at
        return None

    def _latest(self, at: float) -> dict[int, Glimpse]:
        return {glimpse.partition: glimpse for glimpse in self.glimpses if glimpse.at <= at}

    async def _look(self, number: int) -> None:
        key = self._server.partition(number).partition
        found: list[bytes | None] = await self._server.calls(number).call("EVAL", LOOK, 1, key)
        if None not in found:
            token, generation, cursor, sequence, replid = (value.decode() for value in found if value is not None)
            glimpse = Glimpse(time.monotonic(), number, token, generation, cursor, int(sequence), replid)
            self.glimpses.append(glimpse)


def _owner(glimpse: Glimpse) -> str:
    # A token is an epoch, the worker's name, its nonce and a random text.
    return glimpse.token.split("-")[1]
