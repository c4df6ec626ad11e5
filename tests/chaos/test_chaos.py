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
    text = report(result, violations)
    assert not violations, text
    assert not result.died, text
    assert all(result.faults.values()), text
    assert any(sent.replies for sent in result.history.sent), text
    # A flush or a failover may take a poisoned session away before it is parked.
    assert site == LOST or any(sent.parked for sent in result.history.sent), text
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
async def test_after_lost_history_the_rest_is_consistent_and_every_loss_is_reported(tmp_path: Path) -> None:
    plan = Plan(seed=3, seconds=SECONDS / 2, sessions=12, clients=2, workers=2, lease=0.5, changes=0)
    history = (await unbroken(plan, LOST, tmp_path)).history
    assert all(any(isinstance(one, Gone) for one in of.seen) for of in history.listenings)
    assert any(one.gone for one in history.handled)
