"""`make bench`: the speed of commands from the producer to the reply, on this machine, in one run.

One producer process (this one), one worker process, the embedded server. Prints a table, writes results/spine.json.
"""

import argparse
import asyncio
import statistics
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import measuring
from benchmarks.machine import machine
from benchmarks.stage import Stage, client_of, stage
from turnstream.settings import load_settings

RESULTS = Path(__file__).parent / "results" / "spine.json"


class Size(msgspec.Struct, frozen=True):
    """How much is measured."""

    rounds: int = 5
    commands: int = 60_000
    sessions: int = 500
    in_flight: int = 20_000
    latency_rounds: int = 10_000
    append_rounds: int = 3
    appends: int = 100
    longest: int = 100_000


QUICK = Size(2, 10_000, 100, 8_000, 200, 1, 20, 1_000)


async def measure(stage: Stage, size: Size) -> dict[str, Any]:
    """Run all measurements and return their figures."""
    settings = load_settings().at(stage.url)
    async with client_of(settings) as (ts, backend):
        await measuring.throughput(ts, stage, size.commands // 4, size.sessions, size.in_flight)  # warms everything up
        rounds = [
            await measuring.throughput(ts, stage, size.commands, size.sessions, size.in_flight)
            for _ in range(size.rounds)
        ]
        with stage.apart():
            latency = await measuring.latency(ts, backend, stage.url, size.latency_rounds)
            live = await measuring.live_latency(ts, backend, size.latency_rounds)
        lengths = (10, 1_000, size.longest)
        appends = await measuring.append_cost(ts, lengths, size.append_rounds, size.appends)
        memory = await measuring.memory(ts, backend, size.longest)
    return {"throughput": rounds, "latency": latency, "live": live, "append": appends, "memory": memory, "size": size}


def summary(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that have targets."""
    many = [cost["many_us"] for cost in figures["append"].values()]
    return {
        "commands_per_second": statistics.median(r["commands_per_second"] for r in figures["throughput"]),
        "ticket_pings": in_pings(figures["latency"], "ticket"),
        "append_spread": max(many) / min(many) - 1,
    }


def in_pings(latency: dict[str, Any], name: str) -> float:
    """Return how many PINGs a call takes: the median over blocks that were measured in a row."""
    each = zip(latency[name]["blocks_us"], latency["ping"]["blocks_us"], strict=True)
    return float(statistics.median(call / ping for call, ping in each))


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    table = Table("what", "measured", "target", title="Turnstream: one worker, one producer, one server")
    found = summary(figures)
    each = ", ".join(f"{r['commands_per_second']:,.0f}" for r in figures["throughput"])
    table.add_row("applied commands/s, median", f"{found['commands_per_second']:,.0f}  ({each})", "≥ 25,000")
    for name in ("server", "worker", "producer"):
        cpu = statistics.median(r[f"{name}_cpu_us"] for r in figures["throughput"])
        table.add_row(f"CPU a command, {name}", f"{cpu:.1f} µs", "")
    for name, times in figures["latency"].items():
        pings = in_pings(figures["latency"], name)
        target = "≤ 5.0 pings" if name == "ticket" else ""
        table.add_row(
            f"{name} p50 / p99", f"{times['p50_us']:.0f} / {times['p99_us']:.0f} µs = {pings:.1f} pings", target
        )
    for name, times in figures["live"].items():
        pings = times["p50_us"] / figures["live"]["subscription ping"]["p50_us"]
        table.add_row(f"{name} p50 / p99", f"{times['p50_us']:.0f} / {times['p99_us']:.0f} µs = {pings:.1f} pings", "")
    for length, cost in figures["append"].items():
        table.add_row(f"append at {length:,} messages", f"{cost['many_us']:.1f} µs, alone {cost['one_us']:.0f} µs", "")
    table.add_row("spread of the append cost", f"{found['append_spread']:.0%}", "≤ 20%")
    memory = figures["memory"]
    table.add_row("memory a message", f"{memory['stored_bytes']:.0f} B, of JSON {memory['json_bytes']:.0f} B", "")
    Console().print(table)


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    arguments = parser.parse_args()
    with stage() as on:
        figures = run(measure(on, QUICK if arguments.quick else Size()))
    show(figures)
    report = {"machine": machine(), "summary": summary(figures), **figures}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def run(main: Any) -> Any:  # noqa: ANN401 - whatever is measured
    """Run a coroutine on uvloop where it is installed, as a producer in a hurry would."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


if __name__ == "__main__":
    main()
