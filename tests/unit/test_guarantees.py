"""docs/guarantees.md lists promises, docs/guarantees-tests.md the tests of each; every one of them exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
TESTS = (ROOT / "docs" / "guarantees-tests.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(?:\w+::)?(\w+)`", GUARANTEES + TESTS)))
PROMISES = re.findall(r"^\| ([IP]\d+\b[^|]*?) \|", GUARANTEES, re.MULTILINE)


@pytest.mark.parametrize(("path", "name"), NAMED, ids=["::".join(pair) for pair in NAMED])
def test_a_named_test_exists(path: str, name: str) -> None:
    assert re.search(rf"^ *(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_promises_are_numbered_without_gaps() -> None:
    ids = [promise.split()[0] for promise in PROMISES]
    last = int(ids[-1].removeprefix("P"))
    assert ids == [*(f"I{number}" for number in range(1, 12)), *(f"P{number}" for number in range(1, last + 1))]


def test_every_promise_has_tests() -> None:
    sections = re.split(r"^## ", TESTS, flags=re.MULTILINE)[1:]
    tests = {title.strip(): body for title, _, body in (section.partition("\n") for section in sections)}
    assert list(tests) == PROMISES
    assert [promise for promise, body in tests.items() if not re.search(r"^- `tests/", body, re.MULTILINE)] == []
