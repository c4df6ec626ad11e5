"""The sites of runs: a server behind proxies, a cluster that fails over, and a pair that loses history."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
from tests.chaos.cluster import ChaosCluster
from tests.chaos.faults import Fault
from tests.chaos.history import Durability
from tests.chaos.losses import pair_faults
from tests.chaos.members import Members
from tests.chaos.outages import cluster_faults, server_faults
from tests.chaos.pair import Pair
from tests.chaos.processes import ChaosServer
from tests.chaos.proxy import Proxy
from tests.topologies import running_cluster

from turnstream.adapters.redis.keys import Keys

ALL = 100_000_000
"""Events of a partition that no run makes."""
LOST = "lost histories"
BEHIND_PROXIES = "127.0.0.2"
"""The host to which the nodes of a cluster send clients: there a proxy listens on the port of each node."""
FEW = 300
"""Stored events: too few for a subscriber that pauses for seconds."""


class Site(msgspec.Struct, frozen=True):
    """Servers that a run hurts: their URL without a proxy, the proxies, and the faults.

    `events` are stored for each partition. If it `forgets` outcomes, a used command id may be used again.
    """

    url: str
    for_clients: str
    for_workers: str
    faults: Callable[[Keys, Members, Random], Sequence[Fault]]
    durability: Durability = "memory"
    event_retention: int = ALL
    forgets: bool = False


@asynccontextmanager
async def one_server(directory: Path) -> AsyncGenerator[Site]:
    """Give a server that syncs its append-only file before each answer, and must keep all through its restarts."""
    async with AsyncExitStack() as open_things:
        server = ChaosServer(directory)
        open_things.callback(server.close)
        proxies = await _proxies(server.port, ("clients", "workers"), open_things)

        def faults(_: Keys, __: Members, chance: Random) -> list[Fault]:
            return server_faults(server, proxies, chance)

        yield Site(server.url, proxies["clients"].url, proxies["workers"].url, faults)


@asynccontextmanager
async def three_primaries(_: Path) -> AsyncGenerator[Site]:
    """Yield a cluster without persistence: every reply must be on the replica that takes over."""
    async with AsyncExitStack() as open_things:
        running = open_things.enter_context(running_cluster(announced=BEHIND_PROXIES))
        cluster = ChaosCluster(running)
        proxies = [Proxy(node.port, (BEHIND_PROXIES, node.port)) for node in running.nodes]
        for proxy in proxies:
            await _opened(proxy, open_things)

        def faults(keys: Keys, _: Members, chance: Random) -> list[Fault]:
            return cluster_faults(cluster, proxies, [partition.partition for partition in keys.partitions], chance)

        yield Site(running.url, running.url, running.url, faults, "replicated")


@asynccontextmanager
async def lost_histories(_: Path) -> AsyncGenerator[Site]:
    """Yield a primary and a replica that lose answered commands and store few events: subscribers get reports."""
    async with AsyncExitStack() as open_things:
        pair = Pair()
        open_things.callback(pair.close)
        proxies = await _proxies(pair.port, ("witness", "clients", "workers"), open_things)
        pair.led_by(list(proxies.values()))

        def faults(keys: Keys, members: Members, chance: Random) -> list[Fault]:
            ways = {name: proxy for name, proxy in proxies.items() if name != "witness"}
            return pair_faults(pair, ways, keys, members, chance)

        witness, clients, workers = (proxy.url for proxy in proxies.values())
        yield Site(witness, clients, workers, faults, event_retention=FEW, forgets=True)


async def _proxies(port: int, names: Sequence[str], open_things: AsyncExitStack) -> Mapping[str, Proxy]:
    proxies = {name: Proxy(port) for name in names}
    for proxy in proxies.values():
        await _opened(proxy, open_things)
    return proxies


async def _opened(proxy: Proxy, open_things: AsyncExitStack) -> None:
    await proxy.start()
    open_things.push_async_callback(proxy.aclose)


SITES: dict[str, Callable[[Path], AbstractAsyncContextManager[Site]]] = {
    "one server": one_server,
    "a cluster": three_primaries,
    LOST: lost_histories,
}
"""The stages of `make chaos`, in their order."""
