"""The groups of servers that tests start: however a run is cut, it leaves nothing for long."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.topologies import Node, remove_what_was_left
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

STARTS_AND_STAYS = "import tests.topologies as t, time\nn = t.Node()\nprint('ready', flush=True)\ntime.sleep(600)"

LONG_AGO = 1_000_000_000


def test_the_directory_goes_with_a_run_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STARTS_AND_STAYS]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as run:
        assert run.stdout
        assert run.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        run.kill()
    asyncio.run(wait_until(lambda: not list(tmp_path.iterdir())))


def test_leftovers_are_removed_and_live_keys_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    node = Node()
    try:
        (living,) = tmp_path.iterdir()
        left, starting = (tmp_path / f"turnstream-node-{name}" for name in ("left", "starting"))
        for home in (left, starting):
            home.mkdir()
        (left / "lock").touch()
        for home in (left, living):
            os.utime(home, (LONG_AGO, LONG_AGO))
        remove_what_was_left()
        assert {*tmp_path.iterdir()} == {living, starting}
    finally:
        node.stop()
