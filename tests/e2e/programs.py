"""Runs the programs as users do: in separate processes, controlled by arguments, environment and signals."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import redis
from tests.e2e.here import can_run_here, run_here

from turnstream import Turnstream
from turnstream.adapters.redis.keys import Keys
from turnstream.commands import Command
from turnstream.settings import load_settings
from turnstream_cli.main import app
from turnstream_relay.main import app as relay_app

PARTITIONS: Final = 64

POLL: Final = 0.01
"""Seconds between two looks at a condition."""

MARK: Final = "E2E_MARK"
"""The environment variable by which a test knows the processes that it caused, however they were started."""

PATIENCE: Final = 120.0
"""Seconds for a whole program to start and end, on a machine that does other things, too."""

URL_FORMS: Final = ("redis://", "rediss://", "unix://", "redis+cluster://", "redis+sentinel://")

WORKER: Final = "turnstream_worker"
CLI: Final = "turnstream_cli"

APART: Final = ("demo", "dev", "relay", "worker")
"""The commands that start processes, or become one."""

PROC: Final = Path("/proc")

needs_proc = pytest.mark.skipif(not (PROC / "self" / "environ").exists(), reason="looks at processes in /proc")


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait in a test that has no event loop; none is started, so that the condition may run commands here."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(POLL)


class Program:
    """A running program; its output goes to files, so that it can be read while it runs."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def prints(self, text: str) -> None:
        """Wait until it has printed a text."""
        until(lambda: text in self.output or self._died())

    def says(self, text: str) -> None:
        """Wait until it has written a text to standard error."""
        until(lambda: text in self.errors or self._died())

    def type(self, line: str) -> None:
        """Write a line to its standard input, which is a pipe."""
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        """Wait until it has ended, and return its exit status."""
        return self.process.wait(PATIENCE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.send(number)
        return self.status()

    def _died(self) -> bool:
        assert not self.ended, f"it ended with {self.process.returncode}: {self.output}{self.errors}"
        return False


class Programs:
    """Starts programs, and ends what is left of them."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.mark = uuid4().hex
        self._folder = folder
        self.environment = {**_clean_environment(), MARK: self.mark, **environment}
        self._programs: list[Program] = []

    def start(
        self,
        module: str,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start a program of this project that keeps running while the test watches it."""
        return self.spawn(_command(module, arguments), stdin, environment)

    def spawn(self, command: Sequence[str | Path], stdin: int, environment: Mapping[str, str] | None = None) -> Program:
        """Start any program that keeps running while the test watches it."""
        number = len(self._programs)
        out, err = (self._folder / f"{number}.{name}" for name in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                env={**self.environment, **(environment or {})},
                cwd=self._folder,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        self._programs.append(Program(process, out, err))
        return self._programs[-1]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line to its end, in this process if possible."""
        if can_run_here() and arguments[0] not in APART:
            return run_here(app, arguments, self._folder, self.environment, stdin)
        return self.run_apart(*arguments, stdin=stdin)

    def run_relay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `turnstream-relay` to its end, in this process if possible."""
        if arguments[0] == "run" or not can_run_here():
            return self.run_apart("relay", *arguments)
        return run_here(relay_app, arguments, self._folder, self.environment)

    def run_apart(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line to its end, in a separate process."""
        return subprocess.run(
            _command(CLI, arguments),
            env=self.environment,
            cwd=self._folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def execute(self, *commands: Command[Any]) -> list[Any]:
        """Have commands applied, one after the other, and return their results; a worker must run."""

        async def execute() -> list[Any]:
            url, namespace = (self.environment[name] for name in ("TURNSTREAM_REDIS_URL", "TURNSTREAM_NAMESPACE"))
            async with Turnstream.connect(settings=load_settings(redis_url=url, namespace=namespace)) as ts:
                return [await ts.execute(command) for command in commands]

        return asyncio.run(execute())

    def worker(
        self,
        *arguments: str,
        name: str = "one",
        stdin: int = subprocess.DEVNULL,
        deployment: "Deployment | None" = None,
    ) -> Program:
        """Start a worker whose name the leases show."""
        environment = {"TURNSTREAM_WORKER_ID": name, **(deployment.environment if deployment else {})}
        return self.start(WORKER, *arguments, stdin=stdin, environment=environment)

    def left(self) -> set[int]:
        """Return the ids of the living processes that this object caused, its own children and theirs."""
        mark = f"{MARK}={self.mark}".encode()
        return {int(folder.name) for folder in PROC.glob("[0-9]*") if mark in _environ(folder)}

    def close(self) -> None:
        for program in self._programs:
            with suppress(ProcessLookupError):
                program.process.kill()
            program.process.wait()
            if program.process.stdin:
                program.process.stdin.close()
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Deployment:
    """A namespace on a server, and the owners of its partitions."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url = url
        self.namespace = namespace
        self.keys = Keys(namespace, PARTITIONS)

    @property
    def environment(self) -> dict[str, str]:
        return {"TURNSTREAM_REDIS_URL": self.url, "TURNSTREAM_NAMESPACE": self.namespace}

    def owners(self) -> list[str]:
        """Return the worker's name of each partition that is owned."""
        with redis.Redis.from_url(self.url) as client:
            tokens = [client.get(keys.lease) for keys in self.keys.partitions]
        # A token is `<epoch>-<worker's name>:<nonce>-<random>`.
        return [token.decode().partition("-")[2].rpartition(":")[0] for token in tokens if isinstance(token, bytes)]

    def owned_by(self, **shares: int) -> bool:
        """Return whether each of these workers owns so many partitions, and no other worker owns any."""
        owners = self.owners()
        return len(owners) == sum(shares.values()) and all(owners.count(name) == n for name, n in shares.items())

    def workers(self) -> int:
        """Return how many workers the registry holds."""
        with redis.Redis.from_url(self.url) as client:
            count = client.hlen(self.keys.workers)
        assert isinstance(count, int)
        return count


def parent_of(pid: int) -> int:
    """Return the id of a process's parent."""
    status = (PROC / str(pid) / "status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


def children(program: Program, among: set[int]) -> set[int]:
    """Return the children of a program."""
    found: set[int] = set()
    for pid in among:
        with suppress(FileNotFoundError, ProcessLookupError):
            if parent_of(pid) == program.process.pid:
                found.add(pid)
    return found


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _environ(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


def _clean_environment() -> dict[str, str]:
    """Return this process's environment without what would change the programs' behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTREAM_")}
    path = [str(Path(folder).resolve()) for folder in kept.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "COLUMNS": "200", "TERM": "dumb"}
