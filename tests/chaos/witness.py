"""The witness: reads all partitions from time to time, without a proxy, and changes nothing."""

import asyncio
import time
from contextlib import suppress

from redis.exceptions import RedisError
from tests.chaos.history import Glimpse

from turnstream.adapters.redis.server import Server
from turnstream.errors import Unavailable

INTERVAL = 0.02
"""Seconds between two looks: no time of a change is known more exactly."""

KILLED = "takeovers after a kill"
STOPPED = "hand-overs after a SIGTERM"
IN_PEACE = ", no other fault"
GOINGS = (KILLED, STOPPED, KILLED + IN_PEACE, STOPPED + IN_PEACE)
"""How workers go."""

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
        self._gone: list[tuple[str, str, float]] = []

    async def watch(self) -> None:
        """Look again and again, also at a server that comes back."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Look at every partition once."""
        for number in range(len(self._server.keys.partitions)):
            with suppress(Unavailable, RedisError):
                await self._look(number)

    def goes(self, worker: str, how: str) -> None:
        """Note that a worker goes just now, in one of the ways that `GOINGS` lists."""
        self._gone.append((worker, how, time.monotonic()))

    def changes(self) -> dict[str, list[float]]:
        """Return for each way to go the seconds from there until others had all partitions that the worker had."""
        spans = [(how, self._span(worker, at)) for worker, how, at in self._gone]
        return {how: [span for of, span in spans if of == how and span is not None] for how in GOINGS}

    def owners(self) -> set[str]:
        """Return the names of all workers that were seen to own something now."""
        latest: dict[int, str] = {}
        for glimpse in reversed(self.glimpses):
            latest.setdefault(glimpse.partition, _owner(glimpse))
            if len(latest) == len(self._server.keys.partitions):
                break
        return set(latest.values())

    def _span(self, worker: str, at: float) -> float | None:
        """Return the seconds; `None` if it owned nothing, or if others never owned all of its partitions."""
        owned = {g.partition for g in self._latest(at).values() if _owner(g) == worker}
        for glimpse in self.glimpses:
            if glimpse.at > at and glimpse.partition in owned and _owner(glimpse) != worker:
                owned.remove(glimpse.partition)
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
    return owner_in(glimpse.token)


def owner_in(token: str) -> str:
    """Return the name in a token, which is `<epoch>-<name>:<nonce>-<random>`."""
    return token.split("-")[1].partition(":")[0]
