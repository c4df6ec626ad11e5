"""Where runs take place: one server behind proxies, and a cluster whose primaries fail over."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
from tests.chaos.cluster import ChaosCluster
from tests.chaos.faults import Fault, cluster_faults, server_faults
from tests.chaos.history import Durability
from tests.chaos.processes import ChaosServer
from tests.chaos.proxy import Proxy
from tests.topologies import running_cluster

from turnstream.adapters.redis.keys import Keys


class Site(msgspec.Struct, frozen=True):
    """Servers that a run hurts: their URL past every proxy, the ways there, and what is done to them."""

    url: str
    for_clients: str
    for_workers: str
    faults: Callable[[Keys, Random], Sequence[Fault]]
    durability: Durability = "memory"


@asynccontextmanager
async def one_server(directory: Path) -> AsyncGenerator[Site]:
    """Give a server that syncs its append-only file before each answer, and must keep all through its restarts."""
    async with AsyncExitStack() as open_things:
        server = ChaosServer(directory)
        open_things.callback(server.close)
        proxies = {"clients": Proxy(server.port), "workers": Proxy(server.port)}
        for proxy in proxies.values():
            await proxy.start()
            open_things.push_async_callback(proxy.aclose)

        def faults(_: Keys, chance: Random) -> list[Fault]:
            return server_faults(server, proxies, chance)

        yield Site(server.url, proxies["clients"].url, proxies["workers"].url, faults)


@asynccontextmanager
async def three_primaries(_: Path) -> AsyncGenerator[Site]:
    """Give a cluster that keeps nothing on disk: what was answered must be on the replica that takes over."""
    with running_cluster() as running:
        cluster = ChaosCluster(running)

        def faults(keys: Keys, chance: Random) -> list[Fault]:
            return cluster_faults(cluster, [partition.partition for partition in keys.partitions], chance)

        yield Site(running.url, running.url, running.url, faults, "replicated")


SITES: dict[str, Callable[[Path], AbstractAsyncContextManager[Site]]] = {
    "one server": one_server,
    "a cluster": three_primaries,
}
"""The stages of `make chaos`, in their order."""
