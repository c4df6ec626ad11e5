"""Short runs of `make chaos`: everything that a long run does, once or twice."""

from pathlib import Path

import pytest
from tests.chaos.checker import check
from tests.chaos.history import Gone
from tests.chaos.plan import Plan, Result
from tests.chaos.report import report
from tests.chaos.run import run
from tests.chaos.sites import LOST

SECONDS = 2.0
"""Each fault is applied once in any case."""


async def unbroken(plan: Plan, site: str, directory: Path) -> Result:
    result = await run(plan, site, directory)
    violations = check(result.history)
    told = report(result, violations)
    assert not violations, told
    assert not result.died, told
    assert all(result.faults.values()), told
    assert any(sent.told for sent in result.history.sent), told
    # A flush or a failover may take a poisoned session away before it is parked.
    assert site == LOST or any(sent.parked for sent in result.history.sent), told
    return result


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("site", ["one server", "a cluster"])
async def test_a_short_run_breaks_no_invariant(site: str, tmp_path: Path) -> None:
    plan = Plan(seed=3, seconds=SECONDS, sessions=12, clients=2, workers=2, lease=0.5, changes=1)
    result = await unbroken(plan, site, tmp_path)
    assert result.redriven
    assert result.history.redriven


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_where_history_is_lost_all_that_is_left_fits_and_all_listeners_are_told(tmp_path: Path) -> None:
    plan = Plan(seed=3, seconds=SECONDS / 2, sessions=12, clients=2, workers=2, lease=0.5, changes=0)
    history = (await unbroken(plan, LOST, tmp_path)).history
    assert all(any(isinstance(one, Gone) for one in of.seen) for of in history.listenings)
    assert any(one.gone for one in history.handled)
