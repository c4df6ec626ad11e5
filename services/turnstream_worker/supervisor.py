"""Several worker processes on one machine: started, kept running, and ended together.

    supervisor ── holds the write end of a pipe
      ├── worker   its standard input is the read end: when the pipe ends, it stops
      └── worker   in a process group of its own, so that Ctrl-C reaches the supervisor only

The supervisor asks the workers to stop by closing the pipe, which is closed as well when it is killed. It sends no
signal: a service manager may have sent one to every process of the service already, and a second one means at once.
"""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from typing import Final

from turnstream.backoff import Backoff
from turnstream.logging import get_logger
from turnstream_service.stop_requests import STOP_TIME_WITH_CHILDREN, StopRequests

log = get_logger(__name__)

STEADY: Final = 10.0
"""Seconds after which a worker that ends had started well: the next one need not wait long."""


class Supervisor:
    """Keeps a number of worker processes running until it is asked to stop."""

    def __init__(self, name: str, processes: int, log_level: str, *, final_status: int) -> None:
        """Prepare; nothing is started yet.

        Args:
            name: the prefix of the workers' names.
            processes: how many.
            log_level: the log level of the workers.
            final_status: a worker that ends with this status is not started again, and the others are ended.

        """
        self._name = name
        self._processes = processes
        self._command = (
            *(sys.executable, "-P", "-m", "turnstream_worker"),
            *("--stop-at-eof", "--log-level", log_level),
        )
        self._final_status = final_status
        self._running: set[Process] = set()
        self._stopping = asyncio.Event()
        self._inherited, self._held = os.pipe()

    async def run(self, *, stop_at_eof: bool) -> int:
        """Run until asked to stop; return 0, or the final status where a worker ended with it."""
        requests = StopRequests(STOP_TIME_WITH_CHILDREN)
        requests.hand_to(self.stop)
        requests.listen(at_eof=stop_at_eof, before_exit=self._kill)
        try:
            return max(await asyncio.gather(*(self._keep(number + 1) for number in range(self._processes))))
        finally:
            self.stop()
            os.close(self._inherited)

    def stop(self) -> None:
        """Ask every worker to finish."""
        if not self._stopping.is_set():
            self._stopping.set()
            os.close(self._held)

    async def _keep(self, number: int) -> int:
        """Have one worker running, again after every crash, until asked to stop."""
        backoff = Backoff()
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            started = clock()
            status = await self._run_worker(number)
            if self._stopping.is_set():
                break
            if status == self._final_status:
                log.error("worker process cannot work, the others are stopped", number=number, status=status)
                self.stop()
                return status
            if clock() - started > STEADY:
                backoff.succeeded()
            delay = backoff.failed()
            log.warning("worker process ended, starting another", number=number, status=status, delay=round(delay, 2))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
        return 0

    async def _run_worker(self, number: int) -> int:
        # The same name after a crash, so that it gets the same partitions again.
        environment = {**os.environ, "TURNSTREAM_WORKER_ID": f"{self._name}-{number}"}
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=self._inherited, process_group=0, env=environment
        )
        self._running.add(process)
        try:
            return await process.wait()
        finally:
            self._running.discard(process)

    def _kill(self) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                process.kill()
