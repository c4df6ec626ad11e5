"""Somebody who looks at all partitions from time to time, past every proxy, and changes nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError
from tests.chaos.history import Glimpse

from turnstream.adapters.redis.keys import Keys

INTERVAL = 0.05
"""Seconds between two looks."""

FIELDS = ("token", "generation", "cursor", "sequence")


class Witness:
    """Takes glimpses until it is stopped, and knows when workers went."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.glimpses: list[Glimpse] = []
        self._url = url
        self._keys = keys
        self._gone: list[tuple[str, float]] = []

    async def watch(self) -> None:
        """Look again and again, also at a server that comes back."""
        async with Redis.from_url(self._url, protocol=2) as raw:
            call = cast("Callable[..., Awaitable[Any]]", raw.execute_command)
            while True:
                with suppress(RedisError, OSError):
                    await self._look(call)
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

    async def _look(self, call: Callable[..., Awaitable[Any]]) -> None:
        for number, keys in enumerate(self._keys.partitions):
            found: list[bytes | None] = await call("HMGET", keys.partition, *FIELDS)
            if None not in found:
                token, generation, cursor, sequence = (value.decode() for value in found if value is not None)
                now = time.monotonic()
                self.glimpses.append(Glimpse(now, number, token, generation, cursor, int(sequence)))


def _owner(glimpse: Glimpse) -> str:
    # A token is an epoch, the worker's name, its nonce and a random text.
    return glimpse.token.split("-")[1]
