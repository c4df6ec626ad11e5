"""Background tasks of a run, and waits for a condition."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic

from redis.exceptions import RedisError

from turnstream.errors import Unavailable

BOUND = 120.0
"""Seconds within which all must be settled after the faults; generous, for a busy machine."""
POLL = 0.02


async def until(condition: Callable[[], Awaitable[bool]], within: float = BOUND) -> None:
    """Look again and again until a condition holds, also at servers that are away; rest as long as each look takes.

    Raises:
        TimeoutError: it did not in time.

    """
    async with asyncio.timeout(within):
        while True:
            began = monotonic()
            with suppress(RedisError, Unavailable):
                if await condition():
                    return
            await asyncio.sleep(max(POLL, monotonic() - began))


@asynccontextmanager
async def running(works: Sequence[Awaitable[None]]) -> AsyncGenerator[None]:
    """Run tasks inside the block; the error of one that fails is raised when the block ends."""
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
