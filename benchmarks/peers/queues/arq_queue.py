"""arq: up to 100 jobs at a time, results not kept.

A worker looks for jobs every half a second by default, and takes only so many each time that this would be its speed;
`poll_delay` is its setting for that.
"""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from benchmarks.peers.queues import work
from benchmarks.peers.queues.lanes import in_lanes

QUIET = {"version": 1, "disable_existing_loggers": False, "loggers": {"arq": {"level": "WARNING"}}}

store = work.async_client()
producers: list[ArqRedis] = []


async def append(_ctx: dict[str, Any], session: str, message_id: str, body: str) -> None:
    """Append a message to a session."""
    await work.append_async(store, session, message_id, body)


class WorkerSettings:
    """The settings that arq's command reads."""

    functions: ClassVar = [append]
    redis_settings = RedisSettings.from_dsn(work.url())
    max_jobs = 100
    poll_delay = 0.01
    keep_result = 0
    log_results = False


def worker_command(_url: str) -> list[str]:
    """Return the command that runs one worker process."""
    return [sys.executable, "-m", "arq", f"{__name__}.WorkerSettings", "--custom-log-dict", f"{__name__}.QUIET"]


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """Hold the producer's side open."""
    producers.append(await create_pool(WorkerSettings.redis_settings))
    yield
    await producers.pop().aclose()


async def enqueue(jobs: Sequence[work.Job]) -> None:
    """Queue jobs; there is no call for many."""
    await in_lanes(lambda job: producers[0].enqueue_job("append", *job), jobs)
