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

    async def during(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do what needs the workers, all of them.

        Raises:
            Unavailable: a worker ended before it was done.

        """
        doing = asyncio.ensure_future(work)
        watching = [asyncio.create_task(process.wait()) for process in self._processes]
        try:
            await asyncio.wait([doing, *watching], return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                status = next(task.result() for task in watching if task.done())
                raise Unavailable(f"A worker process ended with status {status}: what it said stands above")
            return doing.result()
        finally:
            await _cancelled(doing, *watching)


@asynccontextmanager
async def worker_processes(
    url: str, count: int, log_level: LogLevel, *arguments: str
) -> AsyncGenerator[WorkerProcesses]:
    """Start worker processes on a server, and end them at the end of the block."""
    command = worker_command("--stop-at-eof", "--log-level", log_level, *arguments)
    processes: list[Process] = []
    try:
        for _ in range(count):
            # A separate process group: Ctrl-C then reaches this process only, which ends the workers.
            starting = asyncio.create_subprocess_exec(
                *command,
                env=worker_environment(url),
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
