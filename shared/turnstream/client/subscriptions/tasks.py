"""Concurrent calls of which all or none complete, and tasks that end before their owner continues (design §6)."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")

CANCEL_AGAIN_S = 0.5
"""Seconds until a task that still runs is cancelled again: before Python 3.12 `asyncio.wait_for` can lose one."""


async def gather_all_or_cancel(calls: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all calls concurrently and return their results; if one fails, cancel the others and wait for their end.

    `asyncio.gather` leaves the others running: their pages would arrive while newer pages are being read.
    """
    tasks = [asyncio.create_task(call, name="subscription") for call in calls]
    if not tasks:
        return []
    try:
        return await asyncio.gather(*tasks)
    finally:
        await cancel_and_wait(tasks)


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end; repeat the cancellation if a library has swallowed it."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
