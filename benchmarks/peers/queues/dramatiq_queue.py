"""dramatiq with its Redis broker: one process, 16 threads.

It fetches up to twice as many messages as it has threads, and sleeps, longer each time, while it has no room for more
or finds none: that makes its latency, and with the default of 8 threads its speed. With 32 and more it was no faster.
"""

import sys
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.queues import work

broker = RedisBroker(url=work.url())
dramatiq.set_broker(broker)
store = work.client()


@dramatiq.actor
def append(session: str, message_id: str, body: str) -> None:
    """Append a message to a session."""
    work.append(store, session, message_id, body)


def worker_command(_url: str) -> list[str]:
    """Return the command that runs one worker process."""
    return [sys.executable, "-m", "dramatiq", f"{__name__}:broker", "--processes", "1", "--threads", "16"]


def enqueue(jobs: Sequence[work.Job]) -> None:
    """Queue jobs; there is no call for many."""
    for job in jobs:
        append.send(*job)
