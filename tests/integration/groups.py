"""Clients and workers on a group of servers whose slots move and whose nodes end; leftover keys are not checked."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.contract.redis_deployments import made

from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.keys import Keys
from turnstream.settings import Settings


class OnGroup:
    """A deployment that is opened by a URL."""

    def __init__(self, url: str, namespace: str) -> None:
        self.settings = Settings(namespace=namespace, partitions=4, lease=1.0, connect_timeout=3.0).at(url)
        self.resources = AsyncExitStack()
        self.keys = Keys(self.settings.namespace, self.settings.partitions, sharded=True)

    async def open(self) -> RedisBackend:
        return await made(self.settings)


@asynccontextmanager
async def on_group(url: str, namespace: str = "group") -> AsyncGenerator[OnGroup]:
    """Return a deployment; everything opened on it is closed in the end."""
    deployment = OnGroup(url, namespace)
    async with deployment.resources:
        yield deployment
