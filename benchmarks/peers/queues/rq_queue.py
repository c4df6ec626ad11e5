"""RQ: its worker without a fork a job, which its notes on performance name for jobs of a few milliseconds.

Results are not kept (`result_ttl`). A worker runs one job at a time.
"""

import sys
from collections.abc import Sequence

from rq import Queue

from benchmarks.peers.queues import work
from benchmarks.peers.queues.lanes import in_chunks

store = work.client()
queue = Queue("append", connection=work.client())


def append(session: str, message_id: str, body: str) -> None:
    """Append a message to a session."""
    work.append(store, session, message_id, body)


def worker_command(url: str) -> list[str]:
    """Return the command that runs one worker process."""
    options = ["--url", url, "--worker-class", "rq.worker.SimpleWorker", "--quiet"]
    return [sys.executable, "-m", "rq.cli", "worker", *options, queue.name]


def enqueue(jobs: Sequence[work.Job]) -> None:
    """Queue jobs, many in a pipeline."""
    for chunk in in_chunks(jobs):
        queue.enqueue_many([Queue.prepare_data(append, args=job, result_ttl=0) for job in chunk])
