"""`make bench-growth`: time and memory as sessions, messages, workers and servers become more.

Writes results/growth.json and curves.png. It takes some minutes and up to 6 GB: a million sessions are made.
"""

import argparse
import asyncio
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from tests.topologies import running_cluster

from benchmarks import measuring
from benchmarks.machine import machine
from benchmarks.peers.environments import ROOT, Environment
from benchmarks.spine import run
from benchmarks.stage import Stage, client_of, stage, worker_on
from turnstream import AddMessage, CreateSession, Turnstream, user_message
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.domain.models import partition_of
from turnstream.settings import load_settings

RESULTS: Final = Path(__file__).parent / "results" / "growth.json"
TOGETHER: Final = 20_000
"""Commands in flight."""
SAMPLES: Final = 300
SETTLED: Final = 5.0
"""Seconds until workers have divided the partitions, or have finished what they do after a load."""

Figures = dict[str, float]


class Size(msgspec.Struct, frozen=True):
    """How far it goes."""

    sessions: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    messages: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    workers: tuple[int, ...] = (1, 2, 4)
    commands: int = 60_000
    idle: float = 20.0


QUICK: Final = Size((500, 1_000), (10, 1_000), (1, 2), 5_000, 2.0)


async def more_sessions(ts: Turnstream, backend: RedisBackend, size: Size) -> dict[int, Figures]:
    """Create sessions, up to each number: time of an append, a page and the last 20; memory of a session."""
    ids: list[str] = []
    found: dict[int, Figures] = {}
    for wanted in size.sessions:
        started, before = time.perf_counter(), len(ids)
        while len(ids) < wanted:
            commands = [CreateSession(measuring.CONFIG) for _ in range(min(TOGETHER, wanted - len(ids)))]
            ids += [(await ticket).session_id for ticket in await ts.send_many(commands, timeout=measuring.TIMEOUT)]
        created = (len(ids) - before) / (time.perf_counter() - started)
        chosen = random.Random(wanted).choices(ids, k=size.commands)
        found[wanted] = {"created_per_second": created, **await _at(ts, backend, chosen)}
    return found


async def _at(ts: Turnstream, backend: RedisBackend, chosen: Sequence[str]) -> Figures:
    """Measure on sessions that were chosen among all: most of their headers are in no cache."""
    started = time.perf_counter()
    for start in range(0, len(chosen), TOGETHER):
        load = [AddMessage(session_id, user_message(measuring.TEXT)) for session_id in chosen[start : start + TOGETHER]]
        await measuring.applied(await ts.send_many(load, timeout=measuring.TIMEOUT))
    appended = len(chosen) / (time.perf_counter() - started)
    pages: list[float] = []
    lasts: list[float] = []
    for session_id in chosen[:SAMPLES]:
        await measuring.timed(pages, partial(ts.sessions.page, limit=100))
        await measuring.timed(lasts, partial(ts.sessions.messages, session_id, last=20))
    return {
        "appended_per_second": appended,
        "page_us": measuring.percentiles(pages)["p50_us"],
        "last20_us": measuring.percentiles(lasts)["p50_us"],
        "session_bytes": sum([await _header_bytes(backend, each) for each in chosen[:SAMPLES]]) / SAMPLES,
    }


async def _header_bytes(backend: RedisBackend, session_id: str) -> int:
    number = partition_of(session_id, backend.partitions)
    call, keys = backend.server.calls(number).call, backend.server.partition(number)
    return int(await call("MEMORY", "USAGE", keys.session(session_id), "SAMPLES", 0))


async def more_messages(ts: Turnstream, backend: RedisBackend, size: Size) -> dict[int, Figures]:
    """Measure an append and the last 20 on sessions of each length, and the memory of a message."""
    found: dict[int, Figures] = {}
    for length in size.messages:
        session_id = await measuring.new_session(ts, length)
        appends: list[float] = []
        lasts: list[float] = []
        for _ in range(SAMPLES):
            await measuring.timed(appends, partial(measuring.ticket, ts, session_id))
            await measuring.timed(lasts, partial(ts.sessions.messages, session_id, last=20))
        memory = await measuring.memory(ts, backend, length)
        found[length] = {
            "append_us": measuring.percentiles(appends)["p50_us"],
            "last20_us": measuring.percentiles(lasts)["p50_us"],
            "message_bytes": memory["stored_bytes"],
        }
    return found


async def outcomes(backend: RedisBackend) -> Figures:
    """Measure the memory of the recorded outcomes, a command."""
    used = commands = 0
    for number in range(backend.partitions):
        call, prefix = backend.server.calls(number).call, backend.server.partition(number).outcomes_prefix
        _, keys = await call("SCAN", 0, "MATCH", f"{prefix}*", "COUNT", 10_000_000)
        for key in keys:
            used += int(await call("MEMORY", "USAGE", key, "SAMPLES", 100))
            commands += int(await call("HLEN", key))
    return {"outcomes": float(commands), "outcome_bytes": used / commands}


async def idle(on: Stage, seconds: float) -> Figures:
    """Measure the CPU that server and worker use while nothing is to be done, in percent of a core."""
    await asyncio.sleep(SETTLED)
    before = on.cpu_seconds()
    await asyncio.sleep(seconds)
    after = on.cpu_seconds()
    return {f"{name}_percent": (after[name] - before[name]) / seconds * 100 for name in ("server", "worker")}


async def one_server(on: Stage, size: Size) -> dict[str, Any]:
    """Run what needs one server."""
    async with client_of(load_settings().at(on.url)) as (ts, backend):
        empty = await idle(on, size.idle)
        sessions = await more_sessions(ts, backend, size)
        recorded = await outcomes(backend)
        messages = await more_messages(ts, backend, size)
    return {"idle": empty, "sessions": sessions, "outcomes": recorded, "messages": messages}


async def throughput(on: Stage, commands: int) -> Figures:
    """Measure a few rounds of full speed, and return the best: others use the machine too."""
    async with client_of(load_settings().at(on.url)) as (ts, _):
        await asyncio.sleep(SETTLED)
        rounds = [await measuring.throughput(ts, on, commands, 500, TOGETHER) for _ in range(4)]
    return max(rounds, key=lambda figures: figures["commands_per_second"])


def more_workers(size: Size) -> dict[int, Figures]:
    """Measure with each number of worker processes; the CPU of the further ones is not counted."""
    found: dict[int, Figures] = {}
    for count in size.workers:
        with stage() as on, ExitStack() as further:
            for _ in range(count - 1):
                further.enter_context(worker_on(on.url))
            found[count] = run(throughput(on, size.commands))
    return found


def cluster(size: Size) -> Figures:
    """Measure on a cluster of three nodes."""
    with running_cluster(replicas=False) as nodes, worker_on(nodes.url) as worker_pid:
        pids = tuple(node.process.server.pid for node in nodes.nodes)
        figures: Figures = run(throughput(Stage(nodes.url, pids, worker_pid), size.commands))
        return figures


def show(report: Mapping[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console()
    for title in ("sessions", "messages", "workers"):
        rows: Mapping[int, Figures] = report[title]
        names = list(next(iter(rows.values())))
        table = Table(title, *names, title=f"More {title}")
        for count, figures in rows.items():
            table.add_row(f"{count:,}", *(f"{figures[name]:,.1f}" for name in names))
        console.print(table)
    alone, three = report["workers"][1]["server_cpu_us"], report["cluster"]["server_cpu_us"]
    console.print(
        f"server CPU a command: one node {alone:.1f} µs, a cluster of three {three:.1f} µs ({three / alone:.0%})"
    )
    for name in ("idle", "outcomes"):
        console.print(", ".join(f"{what} {value:,.2f}" for what, value in report[name].items()))


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else Size()
    with stage() as on:
        alone: dict[str, Any] = run(one_server(on, size))
    report = {"machine": machine(), **alone, "workers": more_workers(size), "cluster": cluster(size)}
    show(report)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    drawing = str(Environment.of("plots").python)
    curves = [drawing, "-m", "benchmarks.curves", str(arguments.output), str(arguments.output.parent)]
    subprocess.run(curves, cwd=ROOT, check=True)  # noqa: S603 - our own program


if __name__ == "__main__":
    main()
