"""The processes that a run starts and hurts: programs and a server, none of which outlives the run, however it ends."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from redis import Redis

from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.adapters.embedded.process import GuardedProcess

GRACE = 30.0
"""Seconds that a worker gets to drain."""
NO_SERVER = 2
"""The exit status of a consumer that finds no server when it starts; a worker waits for one."""


class GuardedProgram:
    """A Python program; its watchdog kills it with this process even while it is stopped by a signal."""

    def __init__(self, name: str, arguments: Sequence[str], variables: Mapping[str, str], directory: Path) -> None:
        self.name = name
        environment = (f"{key}={value}" for key, value in variables.items())
        command = ("/usr/bin/env", *environment, sys.executable, *arguments)
        with Path(os.devnull).open("rb") as nothing, (directory / f"{name}.log").open("ab") as log:
            self._process = GuardedProcess.start(command, Path.cwd(), lock=nothing, log=log, scratch=False)

    @property
    def runs(self) -> bool:
        return self._process.server.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status, once it has ended."""
        return self._process.server.poll()

    def kill(self) -> None:
        self._process.stop(grace=0)

    def pause(self) -> None:
        self._process.server.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.server.send_signal(signal.SIGCONT)

    async def drain(self) -> None:
        """Ask it to finish, and wait until it has ended."""
        await asyncio.to_thread(self._process.stop, GRACE)


class WorkerProcess(GuardedProgram):
    """`python -m turnstream_worker`."""

    def __init__(self, name: str, environment: Mapping[str, str], directory: Path) -> None:
        program = ("-P", "-m", "turnstream_worker", "--log-level", "warning")
        super().__init__(name, program, {**environment, "TURNSTREAM_WORKER_ID": name}, directory)


class Workers:
    """The living workers of a run; every new one has a name that none had before."""

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self.alive: list[WorkerProcess] = []
        self.died: list[str] = []
        self._environment = environment
        self._directory = directory
        self._started = 0

    def start(self) -> WorkerProcess:
        self._started += 1
        worker = WorkerProcess(f"w{self._started}", self._environment, self._directory)
        self.alive.append(worker)
        return worker

    def remove(self, worker: WorkerProcess) -> None:
        """Take a worker off the list, before it is ended."""
        self.alive.remove(worker)

    def replace_ended(self) -> None:
        """Replace workers that ended without being ended, and note those that had no reason."""
        for worker in [worker for worker in self.alive if not worker.runs]:
            self.ended(worker)
            self.remove(worker)
            # Its watchdog is still there.
            worker.kill()
            self.start()

    def ended(self, worker: WorkerProcess, *fine: int) -> None:
        """Judge the exit status of a worker."""
        if worker.status not in fine:
            self.died.append(f"{worker.name} (status {worker.status})")

    def close(self) -> None:
        for worker in self.alive:
            worker.kill()


class ChaosServer:
    """A server whose append-only file is synced before each answer: it can be killed, and nothing answered is lost."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = self._started(None)
        self.port = self._server.port
        self.url = self._server.url

    def kill_and_restart(self) -> None:
        """Kill it without a warning, and start it again on the same files and port."""
        with suppress(ProcessLookupError):
            # With its children, which would continue to write the files: the server leads a process group.
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.close()
        self._server = self._started(self.port)

    def close(self) -> None:
        self._server.close()

    def _started(self, port: int | None) -> EmbeddedServer:
        server = start_embedded_server(self._directory, port=port)
        with Redis.from_url(server.url, protocol=2) as raw:
            raw.config_set("appendfsync", "always")
        return server
