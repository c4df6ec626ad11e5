"""streaQ: results off (`ttl=0`), no log line a task, uvloop, and its call for many.

Otherwise the defaults: 16 tasks at a time; with 32, 64 and 128 it was no faster.
"""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from streaq import Worker

from benchmarks.peers.queues import work
from benchmarks.peers.queues.lanes import in_chunks

worker = Worker(redis_url=work.url(), anyio_kwargs={"use_uvloop": True})
store = work.async_client()


@worker.task(ttl=0, silent=True)
async def append(session: str, message_id: str, body: str) -> None:
    """Append a message to a session."""
    await work.append_async(store, session, message_id, body)


def worker_command(_url: str) -> list[str]:
    """Return the command that runs one worker process."""
    return [sys.executable, "-m", "streaq", "run", f"{__name__}:worker"]


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """Hold the producer's side open."""
    async with worker:
        yield


async def enqueue(jobs: Sequence[work.Job]) -> None:
    """Queue jobs, many in a pipeline."""
    for chunk in in_chunks(jobs):
        await worker.enqueue_many([append.enqueue(*job) for job in chunk])
