"""Run one contender through all phases on an empty server, and print its figures as one line of JSON.

It runs in the contender's own environment, from the root of the repository:
`<python> -m benchmarks.peers.queues.drive NAME --url redis://127.0.0.1:PORT --jobs N`. It empties the server.
"""

import argparse
import asyncio
import importlib
import json
import os
import random
from collections.abc import Callable
from typing import Any

from benchmarks.peers.queues import phases, work
from benchmarks.peers.queues.checking import outcome
from benchmarks.peers.queues.contender import Contender, Peer
from benchmarks.peers.queues.worker_process import WorkerProcess

WARM_UP = "warm-up"


async def run(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """Run the phases; each has its own sessions."""
    store = work.client()
    store.flushall()
    names = {phase: [f"{phase}-{n}" for n in range(options.sessions)] for phase in ("drain", "burst", "latency")}
    # Not in turn: two messages of a session may be close to each other, as they are in a chat.
    chosen = random.Random(options.seed)
    drained, burst, single = (
        work.jobs_for(chosen.choices(names[phase], k=jobs))
        for phase, jobs in (("drain", options.jobs), ("burst", options.jobs), ("latency", options.samples))
    )
    command = contender.worker_command(options.url)
    async with contender.opened():
        with WorkerProcess(command) as worker:
            await contender.prepare([WARM_UP, *(name for of_phase in names.values() for name in of_phase)])
            await phases.warm_up(contender, worker, store, WARM_UP)
        queued = await phases.enqueue(contender, drained)
        with WorkerProcess(command) as worker:
            drain = await phases.drain(contender, worker, store, drained)
            end_to_end = await phases.end_to_end(contender, worker, store, burst)
            latency = await phases.latency(contender, single)
    check = outcome(contender, store, [*drained, *burst, *single])
    return {"drain": {**queued, **drain}, "end_to_end": end_to_end, "latency": latency, "check": check}


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Use uvloop where the environment has it, as the worker does."""
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
    except ImportError:
        return asyncio.new_event_loop


def _contender(name: str) -> Contender:
    module = importlib.import_module(f"benchmarks.peers.queues.{name}_queue")
    return module.TurnstreamContender() if name == "turnstream" else Peer(module)


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the contender, as its file is called without `_queue.py`")
    parser.add_argument("--url", required=True, help="the server; everything on it is deleted")
    parser.add_argument("--jobs", type=int, default=5_000, help="of a phase (default: %(default)s)")
    parser.add_argument("--sessions", type=int, default=100, help="that share them (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=200, help="of latency (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of sessions (default: %(default)s)")
    options = parser.parse_args()
    os.environ[work.URL_VARIABLE] = options.url
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        figures = runner.run(run(_contender(options.name), options))
    print(json.dumps({"contender": options.name, "jobs": options.jobs, "sessions": options.sessions, **figures}))


if __name__ == "__main__":
    main()
