"""What is done to a running system. A fault is a small object: `name`, `count` of its applications, and `apply`.

Add a fault by writing another one and putting it into `worker_faults`, `server_faults` or `cluster_faults`; those of
workers and those of servers go on at the same time, so that they meet.
"""

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar

from redis import Redis
from tests.chaos.cluster import ChaosCluster
from tests.chaos.processes import ChaosServer, WorkerProcess, Workers
from tests.chaos.proxy import Proxy
from tests.chaos.witness import KILLED, STOPPED, Witness

MOST_WORKERS = 4


class Fault(ABC):
    """Something that goes wrong, again and again."""

    name: ClassVar[str]
    fails_over: ClassVar[bool] = False

    def __init__(self) -> None:
        self.count = 0

    async def strike(self) -> None:
        """Apply it, and count."""
        await self.apply()
        self.count += 1

    @abstractmethod
    async def apply(self) -> None:
        """Do it, and return when it is over."""


class _WorkerFault(Fault):
    def __init__(self, workers: Workers, witness: Witness, chance: Random, lease: float) -> None:
        super().__init__()
        self.workers = workers
        self.witness = witness
        self.chance = chance
        self.lease = lease

    def taken_out(self) -> WorkerProcess:
        """Choose a worker that is about to go."""
        self.workers.replace_ended()
        worker = self.chance.choice(self.workers.alive)
        self.workers.remove(worker)
        return worker


class KillWorker(_WorkerFault):
    """A worker dies in the middle of whatever it does, and another one is started."""

    name = "worker killed"

    async def apply(self) -> None:
        worker = self.taken_out()
        self.witness.goes(worker.name, KILLED)
        await asyncio.to_thread(worker.kill)
        self.workers.start()


class PauseWorker(_WorkerFault):
    """A worker stands still until others have its partitions, and then goes on as if nothing had happened."""

    name = "worker paused beyond its lease"

    async def apply(self) -> None:
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

    async def apply(self) -> None:
        worker = self.taken_out()
        self.workers.start()
        self.witness.goes(worker.name, STOPPED)
        await worker.drain()
        # One that is asked before Python has even started ends by the signal itself.
        self.workers.ended(worker, 0, -signal.SIGTERM)


class StartWorker(_WorkerFault):
    """A worker more, until there are many; then one less."""

    name = "worker added or withdrawn"

    async def apply(self) -> None:
        if len(self.workers.alive) < MOST_WORKERS:
            self.workers.start()
        else:
            worker = self.taken_out()
            self.witness.goes(worker.name, STOPPED)
            await worker.drain()


class KillServer(Fault):
    """The server dies and comes back on its files; until it syncs them again nobody reaches it."""

    name = "server killed and restarted"

    def __init__(self, server: ChaosServer) -> None:
        super().__init__()
        self._server = server

    async def apply(self) -> None:
        await asyncio.to_thread(self._server.kill_and_restart)


class FlushScripts(Fault):
    """The servers forget all scripts."""

    name = "scripts flushed"

    def __init__(self, urls: Callable[[], Sequence[str]]) -> None:
        super().__init__()
        self._urls = urls

    async def apply(self) -> None:
        for url in self._urls():
            with Redis.from_url(url, protocol=2) as raw:
                raw.script_flush()


class KillPrimary(Fault):
    """A primary of a cluster dies, its replica is promoted, and an empty node becomes the replica of that."""

    name = "primary killed, replica promoted"
    fails_over = True

    def __init__(self, cluster: ChaosCluster, chance: Random) -> None:
        super().__init__()
        self._cluster = cluster
        self._chance = chance

    async def apply(self) -> None:
        await asyncio.to_thread(self._cluster.fail_over, self._chance)


class MoveSlot(Fault):
    """The slot of a partition goes to another primary, key by key, while commands flow."""

    name = "slot moved"

    def __init__(self, cluster: ChaosCluster, keys: Sequence[str], chance: Random) -> None:
        super().__init__()
        self._cluster = cluster
        self._keys = keys
        self._chance = chance

    async def apply(self) -> None:
        await asyncio.to_thread(self._cluster.move_slot, self._keys, self._chance)


class _NetworkFault(Fault):
    def __init__(self, proxy: Proxy, chance: Random) -> None:
        super().__init__()
        self.proxy = proxy
        self.chance = chance


class Cut(_NetworkFault):
    """Every connection ends at once."""

    name = "connections cut"

    async def apply(self) -> None:
        self.proxy.cut()


class DropReplies(_NetworkFault):
    """What is asked is done, and nobody hears of it."""

    name = "replies dropped"

    async def apply(self) -> None:
        self.proxy.drop_replies = True
        try:
            await asyncio.sleep(self.chance.uniform(0.02, 0.2))
        finally:
            self.proxy.drop_replies = False


class Delay(_NetworkFault):
    """Everything takes longer for a while."""

    name = "connections delayed"

    async def apply(self) -> None:
        self.proxy.delay = self.chance.uniform(0.005, 0.1)
        try:
            await asyncio.sleep(self.chance.uniform(0.1, 0.8))
        finally:
            self.proxy.delay = 0.0


def worker_faults(workers: Workers, witness: Witness, chance: Random, lease: float) -> list[Fault]:
    """Return the faults of workers."""
    return [kind(workers, witness, chance, lease) for kind in (KillWorker, PauseWorker, DrainWorker, StartWorker)]


def server_faults(server: ChaosServer, proxies: dict[str, Proxy], chance: Random) -> list[Fault]:
    """Return the faults of the server, and of the ways to it; the name of a way is put behind the fault's."""
    faults: list[Fault] = [KillServer(server), FlushScripts(lambda: [server.url])]
    for way, proxy in proxies.items():
        for kind in (Cut, DropReplies, Delay):
            fault = kind(proxy, chance)
            fault.name = f"{kind.name} ({way})"  # type: ignore[misc]
            faults.append(fault)
    return faults


def cluster_faults(cluster: ChaosCluster, keys: Sequence[str], chance: Random) -> list[Fault]:
    """Return the faults of a cluster in which partitions have these keys."""
    flush = FlushScripts(lambda: [node.url for node in cluster.running.nodes])
    return [flush, KillPrimary(cluster, chance), MoveSlot(cluster, keys, chance)]
