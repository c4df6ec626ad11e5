"""`make chaos`: runs of minutes, first on one server, then on a cluster.

Prints of each what was done, what it took, and every violation; exits 1 if there is one.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

from tests.chaos.checker import INVARIANTS, Violation, check
from tests.chaos.history import Gone
from tests.chaos.members import repeats
from tests.chaos.producers import counts
from tests.chaos.run import Plan, Result, run
from tests.chaos.sites import SITES

SHOWN = 20
"""Violations that are printed whole."""


def main() -> int:
    """Make the runs and check them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long things go wrong, in all")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6), help="to send and choose the same")
    arguments = parser.parse_args()
    # Clients say that they wait for the server; here that is the point, and not worth a line each time.
    logging.getLogger("turnstream").setLevel(logging.ERROR)
    plan = Plan(arguments.seed, arguments.seconds / len(SITES))
    # All runs are made, whatever becomes of one.
    return max([_is_broken(plan, site) for site in SITES])


def _is_broken(plan: Plan, site: str) -> bool:
    directory = Path(tempfile.mkdtemp(prefix="turnstream-chaos-"))
    print(f"{site}: seed {plan.seed}, {plan.seconds:g} s of faults; files in {directory}", flush=True)
    result = asyncio.run(run(plan, site, directory))
    violations = check(result.history)
    print(report(result, violations), flush=True)
    if violations or result.died:
        print(f"The server's files and the workers' logs are kept in {directory}.")
        return True
    shutil.rmtree(directory)
    return False


def report(result: Result, violations: Sequence[Violation]) -> str:
    """Return all that is worth telling, with the seed first."""
    history = result.history
    slowest = sorted((sent.waited for sent in history.sent), reverse=True)
    told = {
        **result.faults,
        **counts(history),
        "events": sum(len(end.events) for end in history.partitions),
        "events seen by subscribers": sum(len(listening.seen) for listening in history.listenings),
        "events handled by a durable subscription": sum(not one.lost for one in history.handled),
        "of them again": repeats(history.handled),
        "times its members were told of a loss": sum(bool(one.lost) for one in history.handled),
        "losses told to subscribers": sum(isinstance(one, Gone) for of in history.listenings for one in of.seen),
        **{f"{how}, s": _spread(seconds) for how, seconds in result.changes.items()},
        "longest waits for an answer, s": ", ".join(f"{seconds:.1f}" for seconds in slowest[:3]),
        "settled after the last fault, s": f"{result.settled_after:.1f}",
        "workers that found no server at their start": result.without_server,
        "workers and members that ended without a reason": ", ".join(result.died) or "none",
        "invariants checked": ", ".join(INVARIANTS),
        "violations": len(violations),
    }
    lines = [
        f"seed {history.seed}, durability {history.durability}",
        *(f"  {name:<48}{value}" for name, value in told.items()),
    ]
    lines += [f"VIOLATION {violation}" for violation in violations[:SHOWN]]
    return "\n".join(lines)


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    middle = ordered[len(ordered) // 2]
    return f"{len(ordered)}: least {ordered[0]:.2f}, median {middle:.2f}, most {ordered[-1]:.2f}"


if __name__ == "__main__":
    sys.exit(main())
