"""The progress of an installation: a few lines elsewhere than on a terminal, and pip's own words if it fails."""

import subprocess
import sys
from pathlib import Path

from tools.installation import Progress

ROOT = Path(__file__).parents[2]


def install(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "tools.installation", *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_follows_pip() -> None:
    progress = Progress()
    steps = [progress.follow(f"  Collecting package-{number}>=1\n") for number in range(40)]
    assert steps.count(True) == 2
    assert progress.text == "40 packages found, now package-39"
    assert not progress.follow("  Downloading package-39.whl (3 kB)\n")
    assert progress.follow("Installing collected packages: one, two, three\n")
    assert progress.text == "installing 3 packages"


def test_a_failure_shows_what_pip_said() -> None:
    done = install("--no-index", "no-such-package-anywhere")
    assert done.returncode != 0
    assert "No matching distribution found for no-such-package-anywhere" in done.stdout


def test_success_takes_one_line() -> None:
    done = install("--no-index", "pip")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Installed in ")
    assert len(done.stdout.splitlines()) == 1
