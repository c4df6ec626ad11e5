"""The processes of a benchmark: the embedded server, one worker process, and a clock for the CPU time of each."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from turnstream import Settings, Turnstream
from turnstream.adapters.embedded import start_embedded_server
from turnstream.adapters.redis.backend import RedisBackend

TICKS = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT = 30


class Stage(msgspec.Struct, frozen=True):
    """A server, or the nodes of a cluster, and a worker, by their process ids."""

    url: str
    server_pids: tuple[int, ...]
    worker_pid: int

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time used so far by the server, the worker and this process, the producer."""
        return {
            "server": sum(map(_cpu_seconds, self.server_pids)),
            "worker": _cpu_seconds(self.worker_pid),
            "producer": sum(os.times()[:2]),
        }

    @contextmanager
    def apart(self) -> Generator[None]:
        """Keep this process, the producer, on a separate core, if the system can do that.

        Left alone, it may put producer and server on one core, where a PING takes a third, or take them apart, and
        keeps to that for a whole run. A producer is on another machine more often than not.
        """
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) > 1:
            _keep_to(cores[:1], os.getpid())
            _keep_to(cores[1:], *self.server_pids, self.worker_pid)
        try:
            yield
        finally:
            if len(cores) > 1:
                _keep_to(cores, *self.server_pids, self.worker_pid, os.getpid())


@contextmanager
def stage() -> Generator[Stage]:
    """Start a server and a worker process; end both."""
    with start_embedded_server() as server, worker_on(server.url) as worker_pid:
        yield Stage(server.url, (server.pid,), worker_pid)


@contextmanager
def worker_on(url: str) -> Generator[int]:
    """Start a worker process on a server, and end it; gives its process id."""
    environment = {**os.environ, "TURNSTREAM_REDIS_URL": url}
    command = [sys.executable, "-m", "turnstream_worker", "--log-level", "error"]
    worker = subprocess.Popen(command, env=environment)  # noqa: S603 - our own worker
    try:
        yield worker.pid
    finally:
        worker.terminate()
        worker.wait(STOP_TIMEOUT)


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncGenerator[tuple[Turnstream, RedisBackend]]:
    """Open a client, and hand out its backend too: some measurements look beneath it."""
    backend = await RedisBackend.open(settings, "bench", works=True)
    resources = AsyncExitStack()
    resources.push_async_callback(backend.aclose)
    async with aclosing(Turnstream(backend, settings, resources)) as ts:
        yield ts, backend


def _keep_to(cores: Sequence[int], *pids: int) -> None:
    threads = (int(thread.name) for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir())
    for thread in threads:
        os.sched_setaffinity(thread, cores)


def _cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process; 0 without /proc."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
