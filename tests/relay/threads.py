"""A receiver in a thread, for a test without an event loop."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager

from tests.relay.receiver import Receiver


@contextmanager
def in_thread(receiver: Receiver) -> Generator[Receiver]:
    """Let a receiver serve in a thread; its deliveries may be read from here."""
    loop_of: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def serve() -> None:
        async with receiver.serving():
            loop_of.append((asyncio.get_running_loop(), ended := asyncio.Event()))
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    ready.wait()
    try:
        yield receiver
    finally:
        ((loop, ended),) = loop_of
        loop.call_soon_threadsafe(ended.set)
        thread.join()
