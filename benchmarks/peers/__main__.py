"""`make bench-peers`: every contender in turn on one server, several rounds, then a table and plots.

Makes the contenders' environments first. The measurements are in `queues/` and `stores/`; here they are ordered: a
round begins with another contender each time, so that a slow minute of the machine meets all of them.
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from benchmarks.machine import machine
from benchmarks.peers.environments import ROOT, Environment
from benchmarks.peers.report import markdown, thinned
from benchmarks.peers.stores.contenders import CONTENDERS as STORES
from turnstream.adapters.embedded import start_embedded_server

RESULTS: Final = ROOT / "benchmarks" / "results"
TIMEOUT: Final = 900
"""Seconds that one contender may take in a round."""

QUEUES: Final[Mapping[str, tuple[str | None, int]]] = {
    "turnstream": (None, 80_000),
    "faststream_batch": ("faststream", 20_000),
    "faststream": ("faststream", 6_000),
    "taskiq": ("taskiq", 6_000),
    "dramatiq": ("dramatiq", 6_000),
    "saq": ("saq", 6_000),
    "arq": ("arq", 6_000),
    "celery": ("celery", 4_000),
    "streaq": ("streaq", 4_000),
    "rq": ("rq", 1_500),
}
"""Worker systems: the environment (none for the project's own), and the jobs of a phase, about two seconds of work."""

Console_: Final = Console(stderr=True)


class Task(msgspec.Struct, frozen=True):
    """One contender in one discipline, as a command to run."""

    kind: str
    name: str
    environment: str | None
    options: Sequence[str] = ()

    def run(self, python: Path, url: str) -> dict[str, Any]:
        """Run it once; its output goes to standard error.

        Raises CalledProcessError or TimeoutExpired if it fails.
        """
        command = [str(python), "-m", f"benchmarks.peers.{self.kind}.drive", self.name, "--url", url, *self.options]
        printed = subprocess.run(  # noqa: S603 - our own programs
            command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=TIMEOUT
        )
        figures: dict[str, Any] = json.loads(printed.stdout.splitlines()[-1])
        return figures


def tasks(*, quick: bool, only: Sequence[str]) -> list[Task]:
    """Return what is run in a round."""
    part = 10 if quick else 1
    queues = [Task("queues", name, env, ("--jobs", str(jobs // part))) for name, (env, jobs) in QUEUES.items()]
    stores = [Task("stores", name, of.environment, ("--quick",) if quick else ()) for name, of in STORES.items()]
    limit = Task("limit", "bare commands", None, ("--commands", str(80_000 // part)))
    every = [limit, *queues, *stores]
    return [task for task in every if not only or task.name in only]


def prepared(wanted: Sequence[Task]) -> dict[str | None, Environment]:
    """Make the environments that are needed and not there yet."""
    found: dict[str | None, Environment] = {None: Environment.ours()}
    for name in dict.fromkeys(task.environment for task in wanted):
        if name is not None:
            Console_.print(f"environment {name}")
            found[name] = Environment.of(name)
    return found


def rounds(
    wanted: Sequence[Task], environments: Mapping[str | None, Environment], count: int, seed: int
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Run every task once a round, in an order that the seed chooses; each on an empty server."""
    order = random.Random(seed)
    for number in range(1, count + 1):
        for task in order.sample(wanted, len(wanted)):
            Console_.print(f"round {number} of {count}: {task.kind}, {task.name}")
            with start_embedded_server() as server:
                try:
                    yield task, task.run(environments[task.environment].python, server.url)
                except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                    yield task, {"failed": str(error)}


def main() -> None:
    """Measure, write the table, the figures and the plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the order of contenders")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--only", nargs="+", default=(), help="these contenders")
    parser.add_argument("--output", type=Path, default=RESULTS, help="a folder")
    arguments = parser.parse_args()
    wanted = tasks(quick=arguments.quick, only=arguments.only)
    environments = prepared(wanted)
    drawing = Environment.of("plots")
    runs = [
        {"kind": task.kind, "name": task.name, "figures": thinned(figures)}
        for task, figures in rounds(wanted, environments, arguments.rounds, arguments.seed)
    ]
    versions = {name or "turnstream": of.versions for name, of in environments.items()}
    about = {**machine(), "seed": arguments.seed, "rounds": arguments.rounds, "versions": versions}
    report = {"machine": about, "runs": runs}
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = arguments.output / "peers.json"
    written.write_bytes(msgspec.json.encode(report) + b"\n")
    (arguments.output / "peers.md").write_text(markdown(report))
    plots = [str(drawing.python), "-m", "benchmarks.peers.plots", str(written), str(arguments.output)]
    subprocess.run(plots, cwd=ROOT, check=True)  # noqa: S603 - our own program
    sys.stdout.write(markdown(report))


if __name__ == "__main__":
    main()
