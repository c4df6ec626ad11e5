"""FastStream on a Redis stream as in `faststream_queue.py`, but its handler gets up to 100 messages at a time.

Each message is still a separate transaction, and they run concurrently; the batch is acknowledged as one, so if one
of its messages fails all of them are delivered again. It runs in FastStream's environment.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from fast_depends.msgspec import MsgSpecSerializer
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

from benchmarks.peers.queues import work
from benchmarks.peers.queues.lanes import in_chunks

STREAM = "append"

broker = RedisBroker(work.url(), serializer=MsgSpecSerializer())
app = FastStream(broker)
store = work.async_client()


@broker.subscriber(stream=StreamSub(STREAM, group="workers", consumer="worker", batch=True, max_records=100))
async def append(jobs: list[dict[str, str]]) -> None:
    """Append messages to their sessions."""
    await asyncio.gather(*[work.append_async(store, **job) for job in jobs])


def worker_command(_url: str) -> list[str]:
    """Return the command that runs one worker process."""
    return [sys.executable, "-m", "faststream", "run", f"{__name__}:app", "--log-level", "warning"]


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """Hold the producer's side open."""
    await broker.connect()
    yield
    await broker.stop()


async def enqueue(jobs: Sequence[work.Job]) -> None:
    """Queue jobs, many in a pipeline."""
    client = await broker.connect()
    for chunk in in_chunks(jobs):
        async with client.pipeline(transaction=False) as pipe:
            for job in chunk:
                await broker.publish(job._asdict(), stream=STREAM, pipeline=pipe)
            await pipe.execute()
