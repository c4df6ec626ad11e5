"""Faults that are applied to a running system. A fault is a small object: `name`, `count` of its uses, and `apply`.

Those of workers are here, those of servers in `outages` and `losses`, of consumers in `members`, of sessions in
`poison`. To add one, write it and put it into the list of its kind. Faults of different kinds run concurrently.
"""

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager, suppress
from random import Random
from time import monotonic
from typing import ClassVar

from tests.chaos.history import Span
from tests.chaos.processes import WorkerProcess, Workers
from tests.chaos.waits import until
from tests.chaos.witness import KILLED, STOPPED, Witness

MOST_WORKERS = 4
ENOUGH = 2
"""Workers that own something before the next one is hurt."""
STARTED_WITHIN = 30.0
"""Seconds that they have for it."""


class Fault(ABC):
    """Something that goes wrong, again and again."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.count = 0

    async def strike(self) -> None:
        """Apply it, and count."""
        await self.apply()
        self.count += 1

    @abstractmethod
    async def apply(self) -> None:
        """Do it, and return when it is over."""


class Loss(Fault):
    """A fault by which servers lose history; it notes when."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[Span] = []

    @contextmanager
    def losing(self) -> Generator[None]:
        """Note that history is lost during the fault."""
        begin = monotonic()
        yield
        self.times.append((begin, monotonic()))


class _WorkerFault(Fault):
    def __init__(self, workers: Workers, witness: Witness, chance: Random, lease: float) -> None:
        super().__init__()
        self.workers = workers
        self.witness = witness
        self.chance = chance
        self.lease = lease

    async def apply(self) -> None:
        """Apply it while other workers run: on a busy machine the next fault may come before a process has started."""
        with suppress(TimeoutError):
            await until(self._enough_work, STARTED_WITHIN)
        await self.hurt()

    @abstractmethod
    async def hurt(self) -> None:
        """Do it."""

    async def _enough_work(self) -> bool:
        self.workers.replace_ended()
        return len(self.witness.owners() & {worker.name for worker in self.workers.alive}) >= ENOUGH

    def taken_out(self) -> WorkerProcess:
        """Choose a worker that is about to go."""
        self.workers.replace_ended()
        worker = self.chance.choice(self.workers.alive)
        self.workers.remove(worker)
        return worker


class KillWorker(_WorkerFault):
    """A worker is killed at a random moment, and another one is started."""

    name = "worker killed"

    async def hurt(self) -> None:
        worker = self.taken_out()
        self.witness.goes(worker.name, KILLED)
        await asyncio.to_thread(worker.kill)
        self.workers.start()


class PauseWorker(_WorkerFault):
    """A worker is paused until others own its partitions, and then continues."""

    name = "worker paused beyond its lease"

    async def hurt(self) -> None:
        self.workers.replace_ended()
        worker = self.chance.choice(self.workers.alive)
        worker.pause()
        try:
            await asyncio.sleep(self.lease * self.chance.uniform(1.2, 2.0))
        finally:
            worker.resume()


class DrainWorker(_WorkerFault):
    """A worker is asked to stop, finishes, and another one takes its place."""

    name = "worker drained"

    async def hurt(self) -> None:
        worker = self.taken_out()
        self.workers.start()
        self.witness.goes(worker.name, STOPPED)
        await worker.drain()
        # One that is asked before Python has even started ends by the signal itself.
        self.workers.ended(worker, 0, -signal.SIGTERM)


class StartWorker(_WorkerFault):
    """A worker more, until there are many; then one less."""

    name = "worker added or withdrawn"

    async def hurt(self) -> None:
        if len(self.workers.alive) < MOST_WORKERS:
            self.workers.start()
        else:
            worker = self.taken_out()
            self.witness.goes(worker.name, STOPPED)
            await worker.drain()


def worker_faults(workers: Workers, witness: Witness, chance: Random, lease: float) -> list[Fault]:
    """Return the faults of workers."""
    return [kind(workers, witness, chance, lease) for kind in (KillWorker, PauseWorker, DrainWorker, StartWorker)]
