"""Waiting for what must happen soon: tests never sleep a fixed time."""

import asyncio
from collections.abc import Awaitable, Callable

SOON = 30.0
"""Seconds within which everything happens that must happen, also on a busy machine."""

_POLL = 0.005


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = SOON) -> None:
    """Look again and again until a condition holds; fail when it does not in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        assert asyncio.get_running_loop().time() < deadline, "the condition did not become true in time"
        await asyncio.sleep(_POLL)
