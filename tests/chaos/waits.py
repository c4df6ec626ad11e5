"""Tasks that run beside a run, and waiting for what comes about sooner or later."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from redis.exceptions import RedisError

from turnstream.errors import Unavailable

BOUND = 120.0
"""Seconds within which all must be settled after the faults; generous, for a busy machine."""
POLL = 0.02


async def until(condition: Callable[[], Awaitable[bool]], within: float = BOUND) -> None:
    """Look again and again until a condition holds, also at servers that are away.

    Raises:
        TimeoutError: it did not in time.

    """
    async with asyncio.timeout(within):
        while True:
            with suppress(RedisError, Unavailable):
                if await condition():
                    return
            await asyncio.sleep(POLL)


@asynccontextmanager
async def running(works: Sequence[Awaitable[None]]) -> AsyncGenerator[None]:
    """Have tasks running inside the block; one that fails is raised at its end."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        await ended(tasks)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def ended(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel tasks, and return when they have ended."""
    while not all(task.done() for task in tasks):
        # Again and again: `asyncio.wait_for`, which libraries use, can swallow one before Python 3.12.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)
