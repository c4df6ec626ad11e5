"""FastStream on a Redis stream with a consumer group: a message is acknowledged when its handler returns.

Several handlers at a time (`max_workers`), msgspec to read messages, uvloop, and pipelines to publish, as its
documentation offers them. `faststream_batch_queue.py` is the same with handlers of batches.
"""

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


@broker.subscriber(stream=StreamSub(STREAM, group="workers", consumer="worker", max_records=100), max_workers=50)
async def append(session: str, message_id: str, body: str) -> None:
    """Append a message to a session."""
    await work.append_async(store, session, message_id, body)


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
