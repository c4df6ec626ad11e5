"""Keeps the events that retention trims, so that the whole surviving history can be judged."""

import asyncio
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from turnstream.adapters.redis.server import Server
from turnstream.codec.events import decode_event
from turnstream.domain.events import AnyEvent
from turnstream.errors import Unavailable

INTERVAL = 0.05
"""Seconds between two looks; retention takes nothing for two seconds."""

READ = """
local state = redis.call('HMGET', KEYS[1], 'generation', 'formerGenerations', 'sequence')
return {state, redis.call('XRANGE', KEYS[2], ARGV[1], '+')}
"""
"""The state of a partition and its events from a sequence on, read at one moment."""


class Archive:
    """All events of each partition, except for those that servers lost."""

    def __init__(self, server: Server) -> None:
        """Be empty."""
        self._server = server
        self._reading = asyncio.Lock()
        self._pasts = [_Past() for _ in server.keys.partitions]

    async def watch(self) -> None:
        """Look again and again, also at servers that come and go."""
        while True:
            for number in range(len(self._pasts)):
                with suppress(Unavailable, RedisError):
                    await self.events(number)
            await asyncio.sleep(INTERVAL)

    async def events(self, number: int) -> list[AnyEvent]:
        """Return all events of a partition up to now."""
        past, keys, calls = self._pasts[number], self._server.partition(number), self._server.calls(number)
        async with self._reading:
            while True:
                start = f"{len(past.events) + 1}-0"
                state, rows = await calls.call("EVAL", READ, 2, keys.partition, keys.events, start)
                if past.is_continued(*((word or b"").decode() for word in state)):
                    past.add(rows)
                    return list(past.events)


class _Past:
    """The events of a partition, and the generation that it had when they were read."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self._generation = ""

    def is_continued(self, generation: str, former: str, sequence: str) -> bool:
        """Remove the events that did not survive; return False if there were any."""
        survived = int(sequence or 0)
        if generation != self._generation:
            parted = dict(pair.split(":") for pair in former.split())
            survived = min(survived, int(parted.get(self._generation, 0)))
            self._generation = generation
        lost = len(self.events) > survived
        del self.events[survived:]
        return not lost

    def add(self, rows: list[Any]) -> None:
        """Add the events that were read after them."""
        for _, (_, payload) in rows:
            event = decode_event(payload)
            assert event is not None
            assert event.meta is not None
            # Regular reads are quicker than retention, unless this process was paused.
            assert event.meta.sequence == len(self.events) + 1, "retention was quicker than the archive"
            self.events.append(event)
