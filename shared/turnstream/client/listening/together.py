"""Reading several streams at the same time, all or none (design §6)."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


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
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
