"""Worker processes that a command starts and ends; they also stop when this process is killed."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from turnstream.errors import Unavailable
from turnstream.logging import get_logger
from turnstream.settings import CREDENTIALS
from turnstream_service.arguments import URL_VARIABLE, LogLevel

log = get_logger(__name__)
Result = TypeVar("Result")

WORKER_ID_VARIABLE: Final = "TURNSTREAM_WORKER_ID"

GRACE: Final = 15.0
"""Seconds that a worker gets to finish its work in flight."""


def service_command(package: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of another service: services do not import each other, so that it is always a process.

    Without `-P` it would take modules of the current directory for its own.
    """
    return (sys.executable, "-P", "-m", package, *arguments)


def worker_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of a worker."""
    return service_command("turnstream_worker", *arguments)


def worker_environment(url: str | None) -> dict[str, str]:
    """Return the environment of a worker on this server: a URL may hold a password, and arguments can be seen."""
    return dict(os.environ) if url is None else {**os.environ, URL_VARIABLE: url}


def forget_credentials() -> None:
    """Forget the user and the password of the environment: a server of this program's own asks for none."""
    for setting in CREDENTIALS:
        os.environ.pop(f"TURNSTREAM_{setting.upper()}", None)


class WorkerProcesses:
    """Some running worker processes."""

    def __init__(self, processes: Sequence[Process]) -> None:
        """Watch these."""
        self._processes = processes
        self._killed: set[Process] = set()

    def kill(self, number: int) -> int:
        """Kill the process with this index, which need not be there any more for the work; return its process id."""
        process = self._processes[number]
        self._killed.add(process)
        process.kill()
        return process.pid

    async def during(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do what needs the workers, all of them.

        Raises:
            Unavailable: a worker ended before it was done.

        """
        doing = asyncio.ensure_future(work)
        watching = asyncio.create_task(self._unexpected_end())
        try:
            await asyncio.wait([doing, watching], return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                status = watching.result()
                raise Unavailable(f"A worker process ended with status {status}: what it said stands above")
            return doing.result()
        finally:
            await _cancelled(doing, watching)

    async def _unexpected_end(self) -> int:
        """Return the status of the first process that ends without having been killed here."""
        running = {asyncio.create_task(process.wait()): process for process in self._processes}
        try:
            while True:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if running.pop(task) not in self._killed:
                        return task.result()
        finally:
            await _cancelled(*running)


@asynccontextmanager
async def worker_processes(
    url: str, count: int, log_level: LogLevel, *arguments: str, name: str | None = None
) -> AsyncGenerator[WorkerProcesses]:
    """Start worker processes on a server, and end them at the end of the block.

    With a `name`, they are called `name-1` and so on.
    """
    command = worker_command("--stop-at-eof", "--log-level", log_level, *arguments)
    processes: list[Process] = []
    try:
        for number in range(1, count + 1):
            names = {WORKER_ID_VARIABLE: f"{name}-{number}"} if name else {}
            # A separate process group: Ctrl-C then reaches this process only, which ends the workers.
            starting = asyncio.create_subprocess_exec(
                *command,
                env={**worker_environment(url), **names},
                stdin=PIPE,
                process_group=0,
            )
            processes.append(await starting)
        yield WorkerProcesses(processes)
    finally:
        await _end(processes)


async def _end(processes: Sequence[Process]) -> None:
    """Ask all to finish, by the end of their standard input; kill those that do not."""
    for process in processes:
        if process.stdin:
            process.stdin.close()
    try:
        async with asyncio.timeout(GRACE):
            await asyncio.gather(*(process.wait() for process in processes))
    except TimeoutError:
        log.warning("worker processes are killed: they did not end in time", seconds=GRACE)
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
