"""The consumer that the demo kills: a program that prints one line for each event that it has handled.

python -m turnstream_cli.demo.consumer_process NAME PREFIX [N]

It handles the events of the sessions whose ids begin with PREFIX, from the beginning or from the checkpoints of the
durable subscription NAME. Each takes a moment, as a call to another service does. After N events it hangs in its
handler. It stops when its standard input ends.
"""

import asyncio
import sys
from threading import Thread
from typing import Final

from turnstream import ResyncRequired, Turnstream
from turnstream.events import Event
from turnstream_service.arguments import LogLevel
from turnstream_service.program import run

LOST: Final = "lost"
"""The line for events that are lost to it."""


CALL: Final = 0.015
"""Seconds that an event takes. Those of several partitions are handled at the same time."""


class Handler:
    """Prints each event, and hangs after some."""

    def __init__(self, hang_after: int | None) -> None:
        """Count from 0."""
        self.stopped = asyncio.Event()
        self._hang_after = hang_after
        self._started = 0

    async def handle(self, event: Event | ResyncRequired) -> None:
        """Print the session and the id of an event."""
        self._started += 1
        if self._hang_after is not None and self._started > self._hang_after:
            await self.stopped.wait()
        await asyncio.sleep(CALL)
        if isinstance(event, ResyncRequired) or event.meta is None:
            sys.stdout.write(f"{LOST}\n")
        else:
            sys.stdout.write(f"{event.session_id} {event.meta.event_id}\n")
        sys.stdout.flush()


async def consume(name: str, prefix: str, hang_after: int | None) -> None:
    """Handle events until standard input ends."""
    async with Turnstream.connect() as ts:
        consumer = ts.consumer(name, Event, start="beginning", session_prefix=prefix)
        handler = Handler(hang_after)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            handler.stopped.set()
            consumer.stop()

        def wait_for_end() -> None:
            sys.stdin.buffer.read()
            loop.call_soon_threadsafe(stop)

        Thread(target=wait_for_end, daemon=True).start()
        await consumer.run(handler.handle)


if __name__ == "__main__":
    run(consume(sys.argv[1], sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else None), LogLevel.ERROR)
