"""A member of the subscription "billing": prints what it handles, and refuses a session while a file is there."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from turnstream import ResyncRequired, Turnstream
from turnstream.events import Event

REFUSED = "refused"
OBSTACLE = Path("obstacle")


async def handle(event: Event | ResyncRequired) -> None:
    """Print an event, or fail."""
    if isinstance(event, Event):
        if event.session_id == REFUSED and OBSTACLE.exists():  # noqa: ASYNC240 - nobody else waits
            raise ConnectionError("a secret")
        print(event.session_id, event.version, flush=True)  # noqa: T201 - that is what it is for


async def main() -> None:
    """Work until SIGTERM."""
    async with Turnstream.connect() as ts:
        member = ts.consumer("billing", start="beginning", attempts=2)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, member.stop)
        await member.run(handle)


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(os.EX_OK)
