"""`turnstream subscriptions …`, with members in separate processes."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.contract.chats import CONFIG
from tests.e2e.programs import PARTITIONS, Program, Programs, until
from tests.e2e.subscribed import OBSTACLE, REFUSED
from typer.testing import CliRunner

from turnstream import CreateSession, UpdateTokenMetrics
from turnstream_cli.main import app

NAME = "billing"


def member(programs: Programs) -> Program:
    return programs.spawn([sys.executable, "-m", "tests.e2e.subscribed"], subprocess.DEVNULL, PATHS)


PATHS = {"PYTHONPATH": str(Path(__file__).parents[2])}


def typed(programs: Programs, *words: str, status: int = 0) -> str:
    result = programs.run("subscriptions", *words)
    assert result.returncode == status, result.stderr
    return result.stdout if status == 0 else result.stderr


def as_json(programs: Programs, *words: str) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in typed(programs, *words, "--json").splitlines()]


@pytest.fixture
def parked(programs: Programs, tmp_path: Path) -> Program:
    """A running member that did not take two events of one session, and took those of another."""
    (tmp_path / OBSTACLE).touch()
    programs.worker("--log-level", "warning")
    programs.execute(
        CreateSession(CONFIG, REFUSED), CreateSession(CONFIG, "other"), UpdateTokenMetrics(REFUSED, prompt_tokens=10)
    )
    running = member(programs)
    until(lambda: "other 1" in running.output and "session parked" in running.errors)
    return running


class TestSubscriptions:
    def test_they_are_looked_at_redriven_and_reset(self, programs: Programs, parked: Program, tmp_path: Path) -> None:
        until(lambda: as_json(programs, "list")[0]["parkedEvents"] == 2)
        assert "2 of 1 sessions" in typed(programs, "list")
        lags = as_json(programs, "lag", NAME)
        assert [lag["partition"] for lag in lags] == list(range(PARTITIONS))
        assert sum(int(str(lag["behind"])) for lag in lags) == 0
        (session,) = as_json(programs, "parked", NAME)
        assert (session["sessionId"], session["events"], session["reason"]) == (REFUSED, 2, "ConnectionError")
        assert "secret" not in parked.errors

        (tmp_path / OBSTACLE).unlink()
        assert typed(programs, "redrive", NAME, REFUSED) == "all handled\n"
        assert f"{REFUSED} 1\n{REFUSED} 2\n" in parked.output
        for word in ("redrive", "discard"):
            words = ("--yes",) if word == "discard" else ()
            assert "has not parked the session" in typed(programs, word, NAME, REFUSED, *words, status=1)

        assert typed(programs, "reset", NAME, "--to", "1h", "--yes") == f"{NAME} continues from there\n"
        until(lambda: parked.output.count("other 1") == 2)
        assert parked.stop() == 0

    def test_they_are_discarded_and_forgotten(self, programs: Programs, parked: Program) -> None:
        assert typed(programs, "discard", NAME, REFUSED, "--yes") == "discarded\n"
        assert REFUSED not in parked.output
        assert "stop them" in typed(programs, "forget", NAME, "--yes", status=1)
        assert parked.stop() == 0
        assert "handled" in typed(programs, "lag", NAME)
        assert as_json(programs, "forget", NAME, "--yes") == [{"subscription": NAME, "status": "forgotten"}]
        assert "There is no subscription 'billing'; known: none" in typed(programs, "parked", NAME, status=1)


@pytest.mark.parametrize("place", ["", "yesterday", "a:b", ":"])
def test_invalid_positions(place: str) -> None:
    result = CliRunner(env={"TERM": "dumb"}).invoke(app, ["subscriptions", "reset", NAME, "--to", place])
    assert result.exit_code == 2
    assert "--to" in result.output
