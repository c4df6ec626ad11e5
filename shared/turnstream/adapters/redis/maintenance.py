"""The periodic maintenance of owned partitions: old events, and damage to command streams (design §1, §2)."""

import asyncio
from collections.abc import Sequence

from turnstream.adapters.redis.connection.pipelined import Word
from turnstream.adapters.redis.failures import understood
from turnstream.adapters.redis.membership.leases import raise_failure
from turnstream.adapters.redis.retention import Retention
from turnstream.adapters.redis.server import Server
from turnstream.backoff import Faults
from turnstream.errors import KeyUnusable
from turnstream.logging import get_logger
from turnstream.ports import InFlight, PartitionState, nothing_in_flight

log = get_logger(__name__)

GROUP = "turnstream"
"""The consumer group that shows the progress of a partition to standard tools; no worker reads through it."""

ANOTHER = -1
"""Said in place of a number of missing entries where the command stream is another one than before."""


class Maintenance:
    """Retention, progress for standard tools, streams that are ahead of the clock, and commands that were lost."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server
        self._retention = Retention(server)
        self._faults: Faults[int] = Faults()
        self._missing: dict[int, tuple[str, int]] = {}
        """By partition the owner's token and how many entries were missing: some may have been on their way to it."""
        self._complete: dict[int, str] = {}
        """By partition the cursor when nothing was missing for the last time."""

    async def tidy(self, states: Sequence[PartitionState], in_flight: InFlight = nothing_in_flight) -> Sequence[int]:
        """Tidy partitions; return those that must be taken again. One that cannot be tidied is left alone for a while.

        Raises:
            Unavailable: no node answers.

        """
        due = [state for state in states if not self._faults.is_paused(state.partition)]
        answers = await asyncio.gather(*(self._tidy(state, in_flight) for state in due), return_exceptions=True)
        for state, answer in zip(due, answers, strict=True):
            if not isinstance(answer, KeyUnusable):
                self._faults.clear(state.partition)
            elif self._faults.failed(state.partition, answer.reason):
                log.warning("partition cannot be tidied", partition=state.partition, error=str(answer))
        raise_failure([answer for answer in answers if not isinstance(answer, KeyUnusable)])
        return [state.partition for state, answer in zip(due, answers, strict=True) if answer is True]

    async def _tidy(self, state: PartitionState, in_flight: InFlight) -> bool:
        """Tidy a partition; return whether it must be taken again."""
        number, calls = state.partition, self._server.calls(state.partition)
        keys, script = self._server.partition(number), self._server.scripts.progress
        clock, names = self._server.clock(number), [keys.partition, keys.commands]
        await understood(self._retention.trim(state), calls, keys.types)
        arguments = (state.token, GROUP, self._server.buckets.window_ms, clock.now().before)
        answer = await understood(script.run(calls, names, arguments), calls, keys.types)
        if not answer:
            return False
        now, replaced, missing = answer
        clock.observe(now)
        if replaced:
            why = "its ids were ahead of the clock"
            log.warning("command stream replaced", why=why, partition=number, last_id=replaced.decode())
            return True
        token, before = self._missing.pop(number, ("", 0))
        if missing == 0:
            self._complete[number] = state.cursor
        elif missing == ANOTHER:
            return await self._count_lost(state, in_flight, missing)
        elif token == state.token and before:
            return await self._count_lost(state, in_flight, before)
        if missing:
            self._missing[number] = (state.token, missing)
        return False

    async def _count_lost(self, state: PartitionState, in_flight: InFlight, missing: int) -> bool:
        """Count lost commands and announce them; return whether the partition must be taken again."""
        number, calls = state.partition, self._server.calls(state.partition)
        keys, script = self._server.partition(number), self._server.scripts.lost
        arguments: tuple[Word, ...] = (
            *(state.token, GROUP, keys.lost, number, self._server.clock(number).now().before, missing),
            *in_flight(number),
        )
        answer = await understood(script.run(calls, [keys.partition, keys.commands], arguments), calls, keys.types)
        lost, again, after, last = answer
        if lost or missing == ANOTHER:
            log.error(
                "commands lost",
                why="another program took them from the stream",
                partition=number,
                stream=keys.commands,
                count=lost,
                at_least=missing == ANOTHER,
                after=self._complete.get(number, after.decode()),
                up_to=last.decode(),
            )
        return bool(again)
