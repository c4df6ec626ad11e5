"""`make chaos`: runs of several minutes on one server, on a cluster, and on a pair that loses history.

Prints the faults, the figures and the violations of each run, then one table. Exits with 1 after a violation.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from tests.chaos.checker import check
from tests.chaos.plan import Plan
from tests.chaos.report import Figures, figures, report, table
from tests.chaos.run import run
from tests.chaos.sites import SITES


def main() -> int:
    """Make the runs and check them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long things go wrong, in all")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6), help="to send and choose the same")
    parser.add_argument("--site", choices=SITES, action="append", help="only there; may be given several times")
    arguments = parser.parse_args()
    # Clients say that they wait for the server; here that is the point, and not worth a line each time.
    logging.getLogger("turnstream").setLevel(logging.ERROR)
    sites = arguments.site or list(SITES)
    plan = Plan(arguments.seed, arguments.seconds / len(sites))
    reports: dict[str, Figures] = {}
    # A failed run does not stop the others.
    broken = [_is_broken(plan, site, reports) for site in sites]
    print(f"\n--seconds {arguments.seconds:g} --seed {plan.seed}\n\n{table(reports)}")
    return max(broken)


def _is_broken(plan: Plan, site: str, reports: dict[str, Figures]) -> bool:
    directory = Path(tempfile.mkdtemp(prefix="turnstream-chaos-"))
    print(f"{site}: seed {plan.seed}, {plan.seconds:g} s of faults; files in {directory}", flush=True)
    result = asyncio.run(run(plan, site, directory))
    violations = check(result.history)
    reports[site] = figures(result, violations)
    print(report(result, violations), flush=True)
    if violations or result.died:
        print(f"The server's files and the workers' logs are kept in {directory}.")
        return True
    shutil.rmtree(directory)
    return False


if __name__ == "__main__":
    sys.exit(main())
