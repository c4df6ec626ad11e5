"""Waiting for a condition, or for an amount of time: tests never sleep a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

SOON = 30.0
"""Seconds within which everything happens that must happen, also on a busy machine."""

_POLL = 0.005
_TICK = 0.002
"""Seconds by which moments must differ to differ in every clock and format: all count milliseconds at least."""


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = SOON) -> None:
    """Look again and again until a condition holds; fail when it does not in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        assert asyncio.get_running_loop().time() < deadline, "the condition did not become true in time"
        await asyncio.sleep(_POLL)


async def time_passes(seconds: float = _TICK) -> None:
    """Wait until the clock has advanced, for tests of ages: by default so far that two times differ."""
    end = time.time() + seconds
    await wait_until(lambda: time.time() >= end, SOON + seconds)
