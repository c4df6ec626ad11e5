"""`make bench-skew`: how unevenly skewed sessions load partitions and shards. A simulation: no server, seeded.

A million sessions get random ids, and traffic by Zipf's law: the session of rank r gets a share that falls as
r ** -exponent. What is asked: how much more than the mean do the busiest session, partition and shard get? As all
that a deployment can take is what its busiest part can, the inverse is the part of the capacity that is usable.

Writes results/skew.md.
"""

import argparse
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from turnstream.domain.models import SESSION_BUCKETS, partition_of

RESULTS: Final = Path(__file__).parent / "results" / "skew.md"
SESSIONS: Final = 1_000_000
EXPONENTS: Final = (0.8, 0.9, 1.0, 1.1, 1.2)
PARTITIONS: Final = (64, 256, 1024)
SHARDS: Final = (3, 12, 48)


def bucket_loads(sessions: int, exponent: float, seed: int) -> list[float]:
    """Return the share of all traffic that each bucket of session ids gets; they add up to 1."""
    chosen = random.Random(seed)
    loads = [0.0] * SESSION_BUCKETS
    for rank in range(1, sessions + 1):
        loads[partition_of(f"{chosen.getrandbits(128):032x}", SESSION_BUCKETS)] += float(rank) ** -exponent
    total = sum(loads)
    return [load / total for load in loads]


def grouped(loads: Sequence[float], parts: int) -> list[float]:
    """Return the loads of so many parts of equal size, each of neighbours: of partitions, or of shards."""
    bounds = [len(loads) * part // parts for part in range(parts + 1)]
    return [sum(loads[start:end]) for start, end in pairwise(bounds)]


def unevenness(loads: Sequence[float]) -> float:
    """Return how many times the mean the busiest part gets."""
    return max(loads) * len(loads)


def busiest_session(sessions: int, exponent: float) -> float:
    """Return the share of all traffic that the busiest session gets."""
    total: float = sum(float(rank) ** -exponent for rank in range(1, sessions + 1))
    return 1 / total


def table(sessions: int, seeds: Sequence[int]) -> str:
    """Return the results as Markdown: the worst of the seeds."""
    shards = [f"{count} shards" for count in SHARDS]
    lines = [
        "# Skewed sessions on partitions and shards",
        "",
        f"`make bench-skew`: {sessions:,} sessions, traffic by Zipf's law, the worst of {len(seeds)} seeds. How many",
        "times the mean the busiest partition and the busiest shard get; a shard holds whole partitions.",
        "",
        f"| exponent | busiest session | partitions | busiest partition | {' | '.join(shards)} |",
        "|---:|---:|---:|---:|" + "---:|" * len(shards),
    ]
    for exponent in EXPONENTS:
        of_seeds = [bucket_loads(sessions, exponent, seed) for seed in seeds]
        for partitions in PARTITIONS:
            loads = [grouped(buckets, partitions) for buckets in of_seeds]
            worst = [max(map(unevenness, loads))]
            worst += [max(unevenness(grouped(each, count)) for each in loads) for count in SHARDS]
            share = f"{busiest_session(sessions, exponent):.2%}"
            cells = [str(exponent), share, str(partitions), *(f"{value:.2f} ×" for value in worst)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    text = table(arguments.sessions, arguments.seeds)
    print(text, end="")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)


if __name__ == "__main__":
    main()
