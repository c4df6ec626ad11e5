"""A short run of `make chaos`: everything that a long run does, once or twice."""

from pathlib import Path

import pytest
from tests.chaos.__main__ import report
from tests.chaos.checker import check
from tests.chaos.run import Plan, run

SECONDS = 4.0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_short_run_breaks_no_invariant(tmp_path: Path) -> None:
    plan = Plan(seed=3, seconds=SECONDS, sessions=12, clients=2, workers=2, lease=0.5)
    result = await run(plan, tmp_path)
    violations = check(result.history)
    assert not violations, report(result, violations)
    assert not result.died, report(result, violations)
    assert any(sent.told for sent in result.history.sent)
    assert sum(result.faults.values()) > 0
