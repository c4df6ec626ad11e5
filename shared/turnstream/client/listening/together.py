"""Reading several streams at the same time, all or none (design §6)."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")

CANCEL_AGAIN = 0.5
"""Seconds after which a task that goes on is cancelled again: before Python 3.12 `asyncio.wait_for` can lose one."""


async def together(parts: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all at the same time; when one fails, the others have ended before that is raised.

    `asyncio.gather` lets them go on: their pages would arrive when others are being read already.
    """
    tasks = [asyncio.create_task(part, name="subscription") for part in parts]
    if not tasks:
        return []
    try:
        return await asyncio.gather(*tasks)
    finally:
        await ended(tasks)


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end; once more, where a library has swallowed the cancellation."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
