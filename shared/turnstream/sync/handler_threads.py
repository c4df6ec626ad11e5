"""Handlers that are ordinary functions: a consumer calls them in threads."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

MAX_THREADS = 10_000
"""Threads of one consumer: no separate limit, because the consumer limits the events in flight."""

SomeEvent = TypeVar("SomeEvent")


async def run_with_threads(
    run: Callable[[Callable[[SomeEvent], Awaitable[None]]], Awaitable[None]], handler: Callable[[SomeEvent], None]
) -> None:
    """Run a consumer whose handler is called in threads, one for each event in flight."""
    threads = ThreadPoolExecutor(MAX_THREADS, "turnstream-handler")

    async def handle(event: SomeEvent) -> None:
        await _in_thread(threads, partial(handler, event))

    try:
        await run(handle)
    finally:
        threads.shutdown(wait=False)


async def _in_thread(threads: Executor, work: Callable[[], None]) -> None:
    """Run a function in a thread. A cancelled call waits for the thread if it has begun: it cannot be stopped."""
    begins = Future[None]()

    def begin() -> None:
        if begins.set_running_or_notify_cancel():
            work()

    call = asyncio.get_running_loop().run_in_executor(threads, copy_context().run, begin)
    cancelled = False
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError:
            cancelled = True
            if begins.cancel():
                call.cancel()
    if cancelled:
        raise asyncio.CancelledError from None if call.cancelled() else call.exception()
    await call
