"""The phases of a contender's run: drain, end to end, latency."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis

from benchmarks.peers.queues import work
from benchmarks.peers.queues.contender import Contender
from benchmarks.peers.queues.worker_process import WorkerProcess

Figures = dict[str, Any]

# Seconds.
POLL: Final = 0.02
WARM_UP_AGAIN: Final = 0.5
WARM_UP_TIMEOUT: Final = 60.0
STALLED: Final = 20.0
"""After so long without progress what is missing counts as lost."""
IDLE: Final = 1.0
BETWEEN_SAMPLES: Final = 0.005
EVENT_TIMEOUT: Final = 10.0
MOST_CALLS: Final = 12
"""Commands of the server whose statistics are kept."""


class Seen(NamedTuple):
    """How many messages were there, and when that was seen first."""

    applied: int
    at: float


async def warm_up(contender: Contender, worker: WorkerProcess, store: redis.Redis, session: str) -> None:
    """Wait until the worker has applied a job; it is queued again, as some see only what comes after their start."""
    end = time.perf_counter() + WARM_UP_TIMEOUT
    while sum(contender.counts(store, [session])) == 0:
        worker.check()
        if time.perf_counter() > end:
            raise TimeoutError(f"No job applied within {WARM_UP_TIMEOUT:g} s")
        await contender.enqueue(contender.loads(work.jobs_for([session])))
        await _until(time.perf_counter() + WARM_UP_AGAIN, contender, store, session)
    await asyncio.sleep(IDLE)


async def _until(end: float, contender: Contender, store: redis.Redis, session: str) -> None:
    while time.perf_counter() < end and sum(contender.counts(store, [session])) == 0:  # noqa: ASYNC110 - no event
        await asyncio.sleep(POLL)


async def enqueue(contender: Contender, jobs: Sequence[work.Job]) -> Figures:
    """Queue jobs while no worker runs."""
    loads = contender.loads(jobs)
    started = time.perf_counter()
    await contender.enqueue(loads)
    return {"enqueued_per_second": len(jobs) / (time.perf_counter() - started)}


async def drain(contender: Contender, worker: WorkerProcess, store: redis.Redis, jobs: Sequence[work.Job]) -> Figures:
    """Watch a worker that was just started apply what is queued, from the first that is seen to the last."""
    before = _server_seconds(store)
    store.config_resetstat()
    first, last = await _watched(contender, worker, store, jobs)
    seconds = last.at - first.at
    rate = (last.applied - first.applied) / seconds if seconds else None
    server = (_server_seconds(store) - before) / last.applied * 1e6 if last.applied else None
    figures = {"applied_per_second": rate, "server_cpu_us": server, "server_calls": _calls(store, last.applied)}
    return {**figures, "seconds": seconds, "applied": last.applied, "first_seen": first.applied}


def _calls(store: redis.Redis, jobs: int) -> dict[str, dict[str, float]]:
    """Return the server's calls a job and their time in microseconds, by command; those of scripts count, too."""
    told: Any = store.info("commandstats")
    spent = sorted(told.items(), key=lambda of: -float(of[1]["usec"]))[:MOST_CALLS]
    return {
        name.removeprefix("cmdstat_"): {"calls": of["calls"] / max(jobs, 1), "us": of["usec"] / max(jobs, 1)}
        for name, of in spent
    }


def _server_seconds(store: redis.Redis) -> float:
    """Return the CPU time that the server says it has used; the phase's queueing is not in it."""
    told: Any = store.info("cpu")
    return float(told["used_cpu_user_main_thread"]) + float(told["used_cpu_sys_main_thread"])


async def end_to_end(
    contender: Contender, worker: WorkerProcess, store: redis.Redis, jobs: Sequence[work.Job]
) -> Figures:
    """Queue jobs while an idle worker waits for them; from the first call to the last that is seen applied."""
    loads = contender.loads(jobs)
    await asyncio.sleep(IDLE)
    started = time.perf_counter()
    await contender.enqueue(loads)
    queued = time.perf_counter() - started
    _, last = await _watched(contender, worker, store, jobs)
    seconds = last.at - started
    rates = {"applied_per_second": last.applied / seconds, "enqueued_per_second": len(jobs) / queued}
    return {**rates, "seconds": seconds, "applied": last.applied}


async def _watched(
    contender: Contender, worker: WorkerProcess, store: redis.Redis, jobs: Sequence[work.Job]
) -> tuple[Seen, Seen]:
    """Return the first and the last progress that is seen, until all is applied or progress stops."""
    sessions = list(dict.fromkeys(job.session for job in jobs))
    first, last = None, Seen(0, time.perf_counter())
    while last.applied < len(jobs) and time.perf_counter() - last.at < STALLED:
        worker.check()
        applied = sum(contender.counts(store, sessions))
        if applied > last.applied:
            last = Seen(applied, time.perf_counter())
            first = first or last
        await asyncio.sleep(POLL)
    return first or last, last


async def latency(contender: Contender, jobs: Sequence[work.Job]) -> Figures:
    """Queue one job at a time, and wait for its event."""
    taken: list[float] = []
    await asyncio.sleep(IDLE)
    async with contender.listening() as heard:
        for job in jobs:
            loads = contender.loads([job])
            await asyncio.sleep(BETWEEN_SAMPLES)
            started = time.perf_counter()
            await contender.enqueue(loads)
            if await heard(job, EVENT_TIMEOUT):
                taken.append((time.perf_counter() - started) * 1e6)
    cuts = statistics.quantiles(taken, n=100) if len(taken) > 1 else [None] * 99
    values = [round(value, 1) for value in taken]
    return {"p50_us": cuts[49], "p99_us": cuts[98], "unheard": len(jobs) - len(taken), "values_us": values}
