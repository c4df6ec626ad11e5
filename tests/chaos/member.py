"""A consumer as a process: `python -m tests.chaos.member NAME FILE [--die-on N] [--refuse S]`.

It starts at the beginning and appends each event to the file before it acknowledges it; between the two it dies on its
N-th event. With `--refuse S` it fails with that share of the events, so that sessions are retried. All consumers of a
run share the file, so its lines are in the order in which events were handled. Settings come from the environment.
"""

import argparse
import asyncio
import os
import signal
import sys
from random import Random

import msgspec
from tests.chaos.history import Handled
from tests.chaos.processes import NO_SERVER
from tests.chaos.subscribers import looking_often, noted_loss

from turnstream import NotHandled, ResyncRequired, Turnstream, Unavailable
from turnstream.domain.events import Event
from turnstream.settings import load_settings


class Log:
    """Writes each line with one call, so that those of several processes do not mix."""

    def __init__(self, member: str, path: str, die_on: int, refuse: float) -> None:
        self._member = member
        self._refuse = refuse
        self._chance = Random(member)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = die_on

    async def __call__(self, event: Event | ResyncRequired) -> None:
        if isinstance(event, Event) and self._chance.random() < self._refuse:
            raise NotHandled("not now")
        os.write(self._file, msgspec.json.encode(self._line(event)) + b"\n")
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def _line(self, event: Event | ResyncRequired) -> Handled:
        if isinstance(event, ResyncRequired):
            return Handled(self._member, event.partition, event.resumed.sequence, gone=noted_loss(event))
        assert event.meta is not None
        meta = event.meta
        return Handled(self._member, meta.partition, meta.sequence, meta.event_id, event.session_id, meta.generation)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("file")
    parser.add_argument("--die-on", type=int, default=0)
    parser.add_argument("--refuse", type=float, default=0.0)
    arguments = parser.parse_args()
    settings = load_settings()
    log = Log(settings.worker_id or "", arguments.file, arguments.die_on, arguments.refuse)
    try:
        ts = await Turnstream.connect(settings=settings)
    except Unavailable:
        sys.exit(NO_SERVER)
    try:
        subscription = ts.consumer(arguments.name, start="beginning")
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, subscription.stop)
        with looking_often():
            await subscription.run(log)
    finally:
        await ts.aclose()


if __name__ == "__main__":
    asyncio.run(main())
