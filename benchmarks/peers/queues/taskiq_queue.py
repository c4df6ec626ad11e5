"""taskiq with the stream broker of taskiq-redis, the one of its brokers that acknowledges.

No result backend; orjson and uvloop, as taskiq's extras offer them; otherwise the defaults: 100 tasks at a time.
"""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from benchmarks.peers.queues import work
from benchmarks.peers.queues.lanes import in_lanes

broker = RedisStreamBroker(work.url()).with_serializer(ORJSONSerializer())
store = work.async_client()


@broker.task
async def append(session: str, message_id: str, body: str) -> None:
    """Append a message to a session."""
    await work.append_async(store, session, message_id, body)


def worker_command(_url: str) -> list[str]:
    """Return the command that runs one worker process."""
    options = ["--workers", "1", "--no-parse", "--log-level", "WARNING"]
    return [sys.executable, "-m", "taskiq", "worker", f"{__name__}:broker", *options]


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """Hold the producer's side open."""
    await broker.startup()
    yield
    await broker.shutdown()


async def enqueue(jobs: Sequence[work.Job]) -> None:
    """Queue jobs; there is no call for many."""
    await in_lanes(lambda job: append.kiq(*job), jobs)
