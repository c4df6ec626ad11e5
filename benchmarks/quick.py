"""`make bench-quick`: is it still fast? The ratio to the server's own limit, in a minute; fails below a floor.

Both are measured in turn, in one run on one server, so a slow machine slows both.
"""

import asyncio
import statistics
import sys
from collections.abc import Mapping
from typing import Final

from rich.console import Console

from benchmarks import limit, measuring
from benchmarks.spine import run
from benchmarks.stage import Stage, client_of, stage
from turnstream.settings import load_settings

FLOOR: Final = 0.25
"""Of the limit. A quiet machine of two cores reaches 0.5, a busy one 0.35: there three processes share what one has."""

ROUNDS: Final = 5
COMMANDS: Final = 40_000
SESSIONS: Final = 500
IN_FLIGHT: Final = 20_000


async def measure(on: Stage) -> list[Mapping[str, float]]:
    """Return, of each round, commands a second of both, and the server's CPU time a command of both."""
    settings = load_settings().at(on.url)
    async with client_of(settings) as (ts, _):
        sample = await limit.sample(settings)
        await measuring.throughput(ts, on, COMMANDS // 4, SESSIONS, IN_FLIGHT)  # warms everything up
        rounds: list[Mapping[str, float]] = []
        for _ in range(ROUNDS):
            ours = await measuring.throughput(ts, on, COMMANDS, SESSIONS, IN_FLIGHT)
            bare = await asyncio.to_thread(limit.measure, on.url, sample, COMMANDS, SESSIONS)
            rounds.append({"ours": ours["commands_per_second"], "limit": bare["commands_per_second"]})
        return rounds


def main() -> None:
    """Measure, print, judge."""
    with stage() as on:
        rounds: list[Mapping[str, float]] = run(measure(on))
    ratio = statistics.median(of["ours"] / of["limit"] for of in rounds)
    console = Console()
    for of in rounds:
        console.print(f"{of['ours']:>10,.0f} applied commands/s, {of['limit']:>10,.0f} as bare pipelined commands")
    console.print(f"{ratio:.2f} of the limit (1 : {1 / ratio:.1f}); the floor is {FLOOR}")
    sys.exit(ratio < FLOOR)


if __name__ == "__main__":
    main()
