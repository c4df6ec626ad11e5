"""docs/guarantees.md names tests; every one of them is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(?:\w+::)?(\w+)`", GUARANTEES)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=["::".join(pair) for pair in NAMED])
def test_a_named_test_exists(path: str, name: str) -> None:
    assert re.search(rf"^ *(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_invariant_names_a_test() -> None:
    rows = [line for line in GUARANTEES.splitlines() if re.match(r"\| I\d+ ", line)]
    assert [row.split()[1] for row in rows] == [f"I{number}" for number in range(1, 12)]
    assert all("`tests/" in row for row in rows)
