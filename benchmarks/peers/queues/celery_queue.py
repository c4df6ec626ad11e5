"""Celery on Redis: results ignored, many short tasks prefetched, acknowledged after the work as with the others.

Of its pools `solo` was the fastest for this task: before a child process, threads and gevent.
"""

import sys
from collections.abc import Sequence

from celery import Celery

from benchmarks.peers.queues import work

app = Celery("append", broker=work.url())
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=64)
store = work.client()


@app.task
def append(session: str, message_id: str, body: str) -> None:
    """Append a message to a session."""
    work.append(store, session, message_id, body)


def worker_command(_url: str) -> list[str]:
    """Return the command that runs one worker process."""
    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [sys.executable, "-m", "celery", "--app", f"{__name__}:app", "worker", "--pool", "solo", *quiet]


def enqueue(jobs: Sequence[work.Job]) -> None:
    """Queue jobs over one connection; there is no call for many."""
    with app.producer_or_acquire() as producer:
        for job in jobs:
            append.apply_async(job, producer=producer)
