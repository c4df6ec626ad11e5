"""`make bench-startup`: the CPU time of imports and commands, as ratios to that of redis-py's import.

All are measured in turn, in one run, so a slow machine slows all of them. Fails above the limits.
"""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
from typing import Final

from rich.console import Console

from benchmarks.stage import stage
from turnstream import CreateSession, SessionConfig, Turnstream

ROUNDS: Final = 11
REFERENCE: Final = ("-c", "import redis.asyncio")
SESSION: Final = "started"

LIMITS: Final = {"import turnstream": 0.9}
"""The largest ratio. `turnstream get` has none: it imports redis-py itself, and typer, which may import pydantic."""


def cpu_seconds(*arguments: str) -> float:
    """Return the CPU time of a Python process, whose bytecode is kept: so it is after an installation."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def create_session(url: str) -> None:
    """Create the session that the command shows."""
    async with Turnstream.connect(url) as ts:
        await ts.execute(CreateSession(SessionConfig("openai", "gpt-4"), SESSION))


def measure(url: str) -> dict[str, float]:
    """Return the median of each ratio to the reference."""
    commands = {
        "import turnstream": ("-c", "import turnstream"),
        "turnstream get": ("-m", "turnstream_cli", "get", SESSION, "--redis-url", url),
        "turnstream --help": ("-m", "turnstream_cli", "--help"),
        "turnstream-worker --help": ("-m", "turnstream_worker", "--help"),
    }
    ratios: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, arguments in commands.items():
            ratios[name].append(cpu_seconds(*arguments) / cpu_seconds(*REFERENCE))
    return {name: statistics.median(found) for name, found in ratios.items()}


def main() -> None:
    """Measure, print, and compare with the limits."""
    with stage() as on:
        asyncio.run(create_session(on.url))
        ratios = measure(on.url)
    console = Console(highlight=False)
    for name, ratio in ratios.items():
        limit = f", at most {LIMITS[name]}" if name in LIMITS else ""
        console.print(f"{ratio:5.2f} × import redis.asyncio{limit}: {name}")
    sys.exit(any(ratios[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    main()
