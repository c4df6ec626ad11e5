"""The diagnosis of a missing reply, for the text of a time-out: whether workers are alive, and the server has room."""

import asyncio
from contextlib import suppress

from turnstream.errors import TurnstreamError
from turnstream.errors.unavailability import UNKNOWN_REASON
from turnstream.ports import Condition, Ownership

FRESH = 1.0
"""Seconds for which a look serves: many commands run out of time together."""


class Diagnosis:
    """Looks at a deployment's condition, at most once a second for each partition."""

    def __init__(self, ownership: Ownership) -> None:
        """Ask this port; nothing is asked yet."""
        self._ownership = ownership
        self._looks: dict[int, tuple[float, asyncio.Task[str]]] = {}

    def begin(self, partition: int) -> None:
        """Look, unless that was done just now; it takes as long as it takes."""
        now = asyncio.get_running_loop().time()
        known = self._looks.get(partition)
        if known is None or now - known[0] > FRESH:
            self._looks[partition] = now, asyncio.create_task(self._look(partition), name="diagnosis")

    def reason(self, partition: int) -> str:
        """Return what was found by now."""
        known = self._looks.get(partition)
        return known[1].result() if known and known[1].done() and not known[1].cancelled() else UNKNOWN_REASON

    async def aclose(self) -> None:
        """End what still looks."""
        tasks = [task for _, task in self._looks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, partition: int) -> str:
        with suppress(TurnstreamError):
            return reason_of(await self._ownership.condition(partition))
        return UNKNOWN_REASON


def reason_of(condition: Condition) -> str:
    """Say what a condition means for a client that waits for an answer."""
    if condition.is_full:
        return "The server is full: its memory has reached maxmemory, so that workers cannot write."
    if not condition.workers:
        return "No worker is registered: start one."
    worker, age = min(condition.workers.items(), key=lambda each: each[1])
    if age > condition.lease:
        return f"No worker is alive: the last one, {worker}, gave its last sign of life {age:.0f} s ago."
    alive = sum(age <= condition.lease for age in condition.workers.values())
    return f"Workers that are alive: {alive}; the last sign of life came {age:.1f} s ago. They may have a long backlog."
