"""Faults of servers and of the proxies in front of them."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from random import Random

from redis import Redis
from tests.chaos.cluster import ChaosCluster
from tests.chaos.faults import Fault, Loss
from tests.chaos.processes import ChaosServer
from tests.chaos.proxy import Proxy, Swallowed
from tests.chaos.waits import until

BEHIND = 0.3
"""Seconds for which a replica gets nothing any more before its primary dies, at most."""


GIVEN_UP_WITHIN = 5.0
"""Seconds that programs have, at most, to give up what swallows, before something else goes wrong with servers."""

CALLED = {"clients": "turnstream-client", "workers": "turnstream-worker"}
"""The client names of programs at the server, by the proxy that they use."""


class KillServer(Fault):
    """The server dies and restarts with its files; until it syncs them again no client can reach it."""

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


class Failover(Loss):
    """A primary dies and its replica continues from its own state; the two steps can be used separately."""

    async def apply(self) -> None:
        await self.begin()
        await asyncio.sleep(self.chance.uniform(0, BEHIND))
        await self.finish()

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self.chance = chance

    @abstractmethod
    async def begin(self) -> None:
        """Let the replica fall behind."""

    async def finish(self) -> None:
        """Kill the primary and promote the replica."""
        with self.losing():
            await self.promote()

    @abstractmethod
    async def promote(self) -> None:
        """Do that."""


class KillPrimary(Failover):
    """A primary of a cluster dies, its replica is promoted, and an empty node becomes the replica of that.

    If the replica is delayed first, it has received everything in the end and confirmed nothing.
    """

    name = "primary killed, replica promoted"

    def __init__(self, cluster: ChaosCluster, chance: Random) -> None:
        super().__init__(chance)
        self._cluster = cluster
        self._shard: int | None = None

    async def apply(self) -> None:
        await self.finish()

    async def begin(self) -> None:
        self._shard = self._cluster.chosen(self.chance)
        self._cluster.pause_replica(self._shard)

    async def promote(self) -> None:
        shard, self._shard = self._shard, None
        await self._cluster.fail_over(self._cluster.chosen(self.chance) if shard is None else shard)


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
    """Requests are carried out, and their replies are lost."""

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


class Swallow(Fault):
    """Everything sent over the connections of some programs is lost from now on, or everything in one direction.

    Neither end notices, and new connections work.
    """

    name = "connections swallow everything"

    def __init__(self, proxies: Sequence[Proxy], what: Swallowed, client: str = "") -> None:
        """Do it on these ways, to clients that call themselves so; "" for all."""
        super().__init__()
        self._proxies = proxies
        self._what: Swallowed = what
        self._client = client

    async def apply(self) -> None:
        for proxy in self._proxies:
            proxy.swallow(self._what, self._client)
        with suppress(TimeoutError):
            # Otherwise the next fault finds no working connection: a paused program gives none of them up.
            await until(self._is_given_up, GIVEN_UP_WITHIN)

    async def _is_given_up(self) -> bool:
        return not any(proxy.swallowing for proxy in self._proxies)


def swallowing(proxies: Sequence[Proxy], way: str, client: str = "") -> list[Fault]:
    """Return the faults that lose everything, requests only, or replies only; their names end in the proxy's."""
    faults: list[Fault] = []
    directions: tuple[Swallowed, ...] = ("both", "requests", "replies")
    for what in directions:
        fault = Swallow(proxies, what, client)
        fault.name = f"{what} swallowed ({way})"  # type: ignore[misc]
        faults.append(fault)
    return faults


def server_faults(server: ChaosServer, proxies: Mapping[str, Proxy], chance: Random) -> list[Fault]:
    """Return the faults of the server and of its proxies; the proxy's name follows the fault's."""
    faults: list[Fault] = [KillServer(server), FlushScripts(lambda: [server.url])]
    for way, proxy in proxies.items():
        for kind in (Cut, DropReplies, Delay):
            fault = kind(proxy, chance)
            fault.name = f"{kind.name} ({way})"  # type: ignore[misc]
            faults.append(fault)
        faults += swallowing([proxy], way)
    return faults


def cluster_faults(cluster: ChaosCluster, proxies: Sequence[Proxy], keys: Sequence[str], chance: Random) -> list[Fault]:
    """Return the faults of a cluster in which partitions have these keys, and of the ways to its nodes."""
    flush = FlushScripts(lambda: [node.url for node in cluster.running.nodes])
    faults: list[Fault] = [flush, KillPrimary(cluster, chance), MoveSlot(cluster, keys, chance)]
    for way, client in CALLED.items():
        faults += swallowing(proxies, way, client)
    return faults
