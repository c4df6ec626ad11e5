"""Short runs of `make chaos`: everything that a long run does, once or twice."""

from pathlib import Path

import pytest
from tests.chaos.checker import check
from tests.chaos.plan import Plan
from tests.chaos.report import report
from tests.chaos.run import run
from tests.chaos.sites import SITES

SECONDS = 2.0
"""Each fault is applied once in any case."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("site", SITES)
async def test_a_short_run_breaks_no_invariant(site: str, tmp_path: Path) -> None:
    plan = Plan(seed=3, seconds=SECONDS, sessions=12, clients=2, workers=2, lease=0.5, changes=1)
    result = await run(plan, site, tmp_path)
    violations = check(result.history)
    assert not violations, report(result, violations)
    assert not result.died, report(result, violations)
    assert any(sent.told for sent in result.history.sent)
    assert any(sent.parked for sent in result.history.sent)
    assert result.redriven
    assert all(result.faults.values()), report(result, violations)
