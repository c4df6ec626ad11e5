"""Several attempts at the same thing: a next one begins when one fails, or takes long (ADR 24)."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Result = TypeVar("Result")

STAGGER = 1.0
"""Seconds after which another one is asked as well: one that does not answer must not hold up those that do."""


async def first_of(
    attempts: Iterable[Callable[[], Awaitable[Result]]],
    passed_over: tuple[type[Exception], ...],
    discard: Callable[[Result], None] = lambda _: None,
) -> Result:
    """Return what the first successful attempt gives; the others are cancelled.

    Args:
        attempts: in the order in which they begin.
        passed_over: the errors of an attempt after which the others continue; any other error is raised immediately.
        discard: takes what came too late.

    Raises:
        ExceptionGroup: all failed; it holds the failures in their order.

    """
    left = deque(attempts)
    running: set[asyncio.Task[Result]] = set()
    failures: list[Exception] = []
    try:
        while left or running:
            if left:
                running.add(asyncio.ensure_future(_result_of(left.popleft())))
            ended, _ = await asyncio.wait(
                running, timeout=STAGGER if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in ended:
                running.discard(task)
                try:
                    return task.result()
                except passed_over as failure:
                    failures.append(failure)
    finally:
        await _end(running, discard)
    raise ExceptionGroup("all failed", failures)


async def _result_of(attempt: Callable[[], Awaitable[Result]]) -> Result:
    return await attempt()


async def _end(running: Iterable[asyncio.Task[Result]], discard: Callable[[Result], None]) -> None:
    for task in running:
        task.cancel()
    for result in await asyncio.gather(*running, return_exceptions=True):
        if not isinstance(result, BaseException):
            discard(result)
