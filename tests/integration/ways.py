"""Servers behind proxies that swallow what is sent: one server, a cluster, and one that a Sentinel names."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from redis import Redis
from tests.chaos.proxy import Proxy, Swallowed
from tests.topologies import PRIMARIES, SERVICE, Node, running_cluster

from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server

ANNOUNCED = "127.0.0.2"
"""The addresses of the proxies of a cluster's nodes, each on its node's port."""


class Ways:
    """The proxies on the ways to some servers, and the URL that leads over them."""

    def __init__(self, url: str, proxies: Sequence[Proxy]) -> None:
        self.url = url
        self.proxies = proxies

    def swallow(self, what: Swallowed) -> int:
        """Have all connections swallow what is sent; return how many there are."""
        return sum(proxy.swallow(what) for proxy in self.proxies)

    @property
    def swallowing(self) -> int:
        """The number of these that are still in use."""
        return sum(proxy.swallowing for proxy in self.proxies)


@asynccontextmanager
async def to_one_server() -> AsyncGenerator[Ways]:
    async with AsyncExitStack() as open_things:
        server = open_things.enter_context(_safe_server())
        proxy = await _started(Proxy(server.port), open_things)
        yield Ways(proxy.url, [proxy])


@asynccontextmanager
async def to_a_cluster() -> AsyncGenerator[Ways]:
    """Give a cluster whose nodes send clients to the proxies."""
    async with AsyncExitStack() as open_things:
        running = await asyncio.to_thread(
            open_things.enter_context, running_cluster(replicas=False, announced=ANNOUNCED)
        )
        for node in running.nodes:
            node.call("CONFIG", "SET", "appendonly", "yes")
        ports = [node.port for node in running.nodes[:PRIMARIES]]
        proxies = [await _started(Proxy(port, (ANNOUNCED, port)), open_things) for port in ports]
        url = "redis+cluster://" + ",".join(f"{ANNOUNCED}:{port}" for port in ports)
        yield Ways(url, proxies)


@asynccontextmanager
async def to_what_a_sentinel_names() -> AsyncGenerator[Ways]:
    """Give a server with a proxy on the way to it, and a Sentinel that names the proxy."""
    async with AsyncExitStack() as open_things:
        server = open_things.enter_context(_safe_server())
        proxy = await _started(Proxy(server.port), open_things)
        config = f"sentinel monitor {SERVICE} 127.0.0.1 {proxy.port} 2\n"
        sentinel = await asyncio.to_thread(Node, "--sentinel", "--bind", "127.0.0.1", config=config)
        open_things.callback(sentinel.stop)
        yield Ways(f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}", [proxy])


@contextmanager
def _safe_server() -> Generator[EmbeddedServer]:
    """Give a server with an append-only file, as the durability `fsync` asks for."""
    with start_embedded_server() as server, Redis.from_url(server.url, protocol=2) as raw:
        raw.config_set("appendonly", "yes")
        yield server


async def _started(proxy: Proxy, open_things: AsyncExitStack) -> Proxy:
    await proxy.start()
    open_things.push_async_callback(proxy.aclose)
    return proxy
