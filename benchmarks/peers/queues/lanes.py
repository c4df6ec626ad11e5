"""Many jobs queued at a time, each session's in order: how a producer in a hurry uses an API."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

from benchmarks.peers.queues.work import Job

T = TypeVar("T")

LANES: Final = 50
"""Jobs under way at a time, where the API takes one; more do not make any of the contenders faster."""

CHUNK: Final = 500
"""Jobs of one call, where the API takes many."""


async def in_lanes(send: Callable[[Job], Awaitable[object]], jobs: Sequence[Job], lanes: int = LANES) -> None:
    """Send jobs one by one in several lanes; the jobs of a session share a lane, so none overtakes another."""
    lane_of = {session: number % lanes for number, session in enumerate(dict.fromkeys(job.session for job in jobs))}
    loads: list[list[Job]] = [[] for _ in range(lanes)]
    for job in jobs:
        loads[lane_of[job.session]].append(job)
    await asyncio.gather(*[_one_by_one(send, load) for load in loads if load])


async def _one_by_one(send: Callable[[Job], Awaitable[object]], jobs: Sequence[Job]) -> None:
    for job in jobs:
        await send(job)


def in_chunks(jobs: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Cut the jobs into calls of many."""
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]
