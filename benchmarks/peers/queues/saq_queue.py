"""SAQ on Redis: finished jobs are deleted (`ttl`), since their results are not read.

Otherwise the defaults: 10 jobs at a time; with 50 it was no faster.
"""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from saq import Queue

from benchmarks.peers.queues import work
from benchmarks.peers.queues.lanes import in_lanes

DELETED = -1

queue = Queue.from_url(work.url())
store = work.async_client()


async def append(_ctx: dict[str, Any], *, session: str, message_id: str, body: str) -> None:
    """Append a message to a session."""
    await work.append_async(store, session, message_id, body)


settings = {"queue": queue, "functions": [append]}


def worker_command(_url: str) -> list[str]:
    """Return the command that runs one worker process."""
    return [sys.executable, "-m", "saq", f"{__name__}.settings"]


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """Hold the producer's side open."""
    await queue.connect()
    yield
    await queue.disconnect()


async def enqueue(jobs: Sequence[work.Job]) -> None:
    """Queue jobs; there is no call for many."""
    await in_lanes(lambda job: queue.enqueue("append", ttl=DELETED, **job._asdict()), jobs)
