"""Sessions that cannot be written: a key of the wrong type replaces their messages until an operator helps."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from random import Random

from redis.exceptions import RedisError
from tests.chaos.faults import Fault
from tests.chaos.waits import until

from turnstream import Turnstream
from turnstream.adapters.redis.server import Server
from turnstream.domain.models import partition_of
from turnstream.errors import Unavailable

SPOIL = """
if redis.call('TYPE', KEYS[1]).ok == 'hash' then redis.call('RENAME', KEYS[1], KEYS[2]) end
redis.call('SET', KEYS[1], 'a foreign text')
"""
CLEAN = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return redis.call('DEL', KEYS[2]) end
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
"""
"""If another value is stored there by now, the session was deleted or lost: then nothing is restored."""

PATIENCE = 3.0
"""Seconds for which a command of the session is waited for that is parked."""
PAUSE = 0.02
LEFT = 2
"""Sessions that stay poisoned until all other faults are over."""


class PoisonSession(Fault):
    """A session is parked, and then redriven while its commands flow; some of them only in the end."""

    name = "session poisoned"

    def __init__(self, server: Server, ts: Turnstream, victims: Sequence[str], chance: Random) -> None:
        """Poison some of these sessions, without a proxy, and redrive them through an ordinary client."""
        super().__init__()
        self.poisoned: set[str] = set()
        self.redriven = 0
        """How often a session was redriven to its end."""
        self._server = server
        self._ts = ts
        self._victims = victims
        self._chance = chance
        self._left: list[str] = []

    async def apply(self) -> None:
        session_id = self._chance.choice([victim for victim in self._victims if victim not in self._left])
        self.poisoned.add(session_id)
        await self._swap(session_id, SPOIL)
        with suppress(TimeoutError):
            await until(partial(self._is_parked, session_id), PATIENCE)
        await asyncio.sleep(self._chance.uniform(0, 0.3))
        if len(self._left) < LEFT and len(self._left) < len(self._victims) - 1:
            self._left.append(session_id)
        else:
            await self._help(session_id)

    async def end(self) -> None:
        """Help all sessions that are still poisoned, or again: history may have been lost in which one was helped."""
        for session_id in sorted(self.poisoned):
            await self._help(session_id)

    async def _help(self, session_id: str) -> None:
        """Remove the wrong value, and redrive until nothing of the session is parked."""
        while True:
            with suppress(Unavailable, RedisError):
                await self._swap(session_id, CLEAN)
                progress = await self._ts.admin.parked.redrive(session_id)
                self.redriven += progress.done > 0 and progress.left == 0
                if not progress.left:
                    return
            await asyncio.sleep(PAUSE)

    async def _swap(self, session_id: str, script: str) -> None:
        key = self._server.partition(self._partition(session_id)).messages(session_id)
        calls = self._server.calls(self._partition(session_id))
        while True:
            with suppress(Unavailable, RedisError):
                await calls.call("EVAL", script, 2, key, f"{key}:away")
                return
            await asyncio.sleep(PAUSE)

    async def _is_parked(self, session_id: str) -> bool:
        registry = self._server.partition(self._partition(session_id)).parked
        return bool(await self._server.calls(self._partition(session_id)).call("HEXISTS", registry, session_id))

    def _partition(self, session_id: str) -> int:
        return partition_of(session_id, len(self._server.keys.partitions))
