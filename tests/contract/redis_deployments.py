"""Deployments on what speaks the Redis protocol: the real server, and fakeredis, a server written in Python."""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain
from typing import Any, cast

import fakeredis
import redis
from fakeredis.aioredis import FakeAsyncRedisConnection, FakeRedis
from redis.asyncio import Redis
from tests.contract.deployments import Malformed, decoded
from tests.topologies import PRIMARIES, RunningCluster, RunningSentinels

from turnstream.adapters.redis.backend import RedisBackend, one_server, server_at
from turnstream.adapters.redis.deployment.checks import check_servers
from turnstream.adapters.redis.keys import Keys
from turnstream.adapters.redis.server import Scripts
from turnstream.domain.events import AnyEvent
from turnstream.ports import SUBSCRIPTION_NAME, PartitionState, SubscriptionState
from turnstream.settings import Settings

WHOLE: dict[str, tuple[str | int, ...]] = {
    "string": ("GET",),
    "hash": ("HGETALL",),
    "set": ("SMEMBERS",),
    "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    "stream": ("XRANGE", "-", "+"),
}
"""How to read a key whole, by its type."""


def permanent_keys(keys: Keys) -> Iterator[str]:
    """Yield patterns of all keys that never expire; every other key needs a time to live (design §2)."""
    yield from map(re.escape, (keys.layout, keys.workers, keys.subscriptions))
    yield f"{re.escape(keys.members('').members)}{SUBSCRIPTION_NAME}"
    for of in keys.partitions:
        yield from map(re.escape, (of.commands, of.partition, of.index, of.events, of.malformed, of.parked))
        yield from (re.escape(named("")) + ".+" for named in (of.session, of.messages, of.order, of.queue))
        yield f"{re.escape(of.subscription('').state)}{SUBSCRIPTION_NAME}(:requests|:retries|:parked(:.+)?)?"
        yield re.escape(of.outcomes(0)).removesuffix("0") + r"\d+"


class RedisDeployment(ABC):
    """A namespace on a server."""

    def __init__(self, settings: Settings, raw: Redis) -> None:
        self.settings = settings
        self.resources = AsyncExitStack()
        self.keys = Keys(settings.namespace, settings.partitions)
        self.raw = raw

    @abstractmethod
    async def open(self) -> RedisBackend:
        """Return a backend with separate connections."""

    async def call(self, *words: str | bytes | float) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send one command, past all code of the adapter but the names of keys."""
        execute = cast("Callable[..., Awaitable[Any]]", self.raw.execute_command)
        return await execute(*words)

    async def append(self, partition: int, fields: Mapping[bytes, bytes]) -> str:
        words = chain.from_iterable(fields.items())
        entry_id: bytes = await self.call("XADD", self.keys.partitions[partition].commands, "*", *words)
        return entry_id.decode()

    async def dump(self) -> dict[str, object]:
        # Without the leases, which expire while a slow machine looks.
        leases = {keys.lease for keys in self.keys.partitions}
        return {name: await self._content(name) for name in sorted(set(await self.names()) - leases)}

    async def names(self) -> list[str]:
        keys: list[bytes] = await self.call("KEYS", "*")
        return [key.decode() for key in keys]

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.call("PUBLISH", channel, payload)

    async def backlog(self, partition: int) -> int:
        return int(await self.call("XLEN", self.keys.partitions[partition].commands))

    async def events(self, partition: int) -> list[AnyEvent]:
        entries = await self._stream(self.keys.partitions[partition].events)
        events = decoded(fields[b"event"] for _, fields in entries)
        assert [entry_id for entry_id, _ in entries] == [f"{_sequence(event)}-0" for event in events]
        return events

    async def trim(self, partition: int, oldest: int) -> None:
        await self.call("XTRIM", self.keys.partitions[partition].events, "MINID", f"{oldest}-0")

    async def malformed(self, partition: int) -> list[Malformed]:
        entries = await self._stream(self.keys.partitions[partition].malformed)
        return [Malformed(f.pop(b"entryId").decode(), f.pop(b"error").decode(), f) for _, f in entries]

    async def expire(self, state: PartitionState) -> None:
        await self.expire_of(state.partition)

    async def expire_of(self, partition: int) -> None:
        """Let a lease run out, whosever it is."""
        await self.call("DEL", self.keys.partitions[partition].lease)

    async def expire_member(self, name: str, state: SubscriptionState) -> None:
        await self.call("DEL", self.keys.partitions[state.partition].subscription(name).lease)

    async def leaks(self) -> list[str]:
        """Return the keys that are neither permanent nor going to expire."""
        permanent = re.compile("|".join(permanent_keys(self.keys)), re.DOTALL)
        others = [name for name in await self.names() if not permanent.fullmatch(name)]
        return [name for name in others if await self.call("PTTL", name) == -1]

    async def aclose(self) -> None:
        try:
            await self.resources.aclose()
            leaks = await self.leaks()
        finally:
            for name in await self.names():
                await self.call("UNLINK", name)
            await self.raw.aclose()
        assert leaks == []

    async def _stream(self, key: str) -> list[tuple[str, dict[bytes, bytes]]]:
        entries: Any = await self.call("XRANGE", key, "-", "+")
        return [(entry_id.decode(), dict(fields)) for entry_id, fields in entries]

    async def _content(self, name: str) -> object:
        read, *arguments = WHOLE[(await self.call("TYPE", name)).decode()]
        return await self.call(read, name, *arguments)


class FakeDeployment(RedisDeployment):
    """On fakeredis, which knows no INFO: nothing to check at start-up, and no replication id."""

    def __init__(self, settings: Settings) -> None:
        self._server = fakeredis.FakeServer(version=(7, 4))
        super().__init__(settings, FakeRedis(server=self._server, protocol=2))

    async def open(self) -> RedisBackend:
        connect = partial(_FakeConnection, server=self._server, protocol=2)
        backend = RedisBackend(one_server(self.settings, connect, Scripts(plain=True), knows_replication=False))
        await backend.deployment.make()
        return backend


class EmbeddedDeployment(RedisDeployment):
    """On the real server that the tests of a process share: each has a namespace, and leaves no key behind."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Redis.from_url(settings.redis_url.get_secret_value(), protocol=2))

    async def open(self) -> RedisBackend:
        return await made(self.settings)


class SentinelDeployment(EmbeddedDeployment):
    """On the server that Sentinels call the primary; the tests of a process share it."""

    def __init__(self, settings: Settings, group: RunningSentinels) -> None:
        super().__init__(settings.at(group.servers[0].url))
        self.settings = settings.at(group.url)

    async def names(self) -> list[str]:
        keys: list[bytes] = await self.call("KEYS", f"{self.settings.namespace}:*")
        return [key.decode() for key in keys]


class ClusterDeployment(RedisDeployment):
    """On the cluster that the tests of a process share; each has a namespace."""

    def __init__(self, settings: Settings, cluster: RunningCluster) -> None:
        self._cluster = cluster
        self._nodes = {node: Redis.from_url(node.url, protocol=2) for node in cluster.nodes[:PRIMARIES]}
        super().__init__(settings.at(cluster.url), self._nodes[cluster.nodes[0]])

    async def open(self) -> RedisBackend:
        return await made(self.settings)

    async def call(self, *words: str | bytes | float) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send one command to the node that holds its key."""
        key = words[1].decode() if isinstance(words[1], bytes) else str(words[1])
        return await self._on(self._nodes[self._cluster.holder(key)], *words)

    async def names(self) -> list[str]:
        found = [await self._on(node, "KEYS", f"{self.settings.namespace}:*") for node in self._nodes.values()]
        return [key.decode() for keys in found for key in keys]

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.call("SPUBLISH", channel, payload)

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            for node in self._nodes.values():
                await node.aclose()

    async def _on(self, node: Redis, *words: str | bytes | float) -> Any:  # noqa: ANN401
        execute = cast("Callable[..., Awaitable[Any]]", node.execute_command)
        return await execute(*words)


class _FakeTransport:
    """The part of a transport that a `Wire` needs: it gets fakeredis's answers, with nothing to parse."""

    def __init__(self, socket: Any) -> None:  # noqa: ANN401 - fakeredis's own
        self._socket = socket
        self._protocol: Any = None
        self._task: asyncio.Task[None] | None = None

    def set_protocol(self, protocol: Any) -> None:  # noqa: ANN401 - a wire
        self._protocol = protocol
        self._task = asyncio.create_task(self._read())

    def is_closing(self) -> bool:
        return self._task is None or self._task.cancelling() > 0

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    async def _read(self) -> None:
        while True:
            self._protocol.on_reply(await self._socket.responses.get())


class _FakeConnection(FakeAsyncRedisConnection):
    """fakeredis does not wake who reads from a connection when it is closed; a socket does."""

    async def _connect(self) -> None:
        await super()._connect()
        vars(self._writer)["transport"] = _FakeTransport(self._sock)

    def _close(self) -> None:
        if self._writer is not None:
            cast("_FakeTransport", vars(self._writer)["transport"]).close()
        self._sock = self._reader = self._writer = None

    async def disconnect(self, nowait: bool = False, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as redis-py
        socket = self._sock
        await super().disconnect(nowait=nowait)
        if socket is not None:
            socket._response_available.set()

    async def read_response(self, *_: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the server answers
        answer = await super().read_response(**kwargs)
        if self._sock is None:
            raise redis.ConnectionError("The connection was closed")
        return answer


async def made(settings: Settings) -> RedisBackend:
    """Open a backend, and make the deployment if it is not made yet; its user need not have a worker's permissions."""
    backend = RedisBackend(server_at(settings, "test"))
    try:
        await check_servers(backend.server, throw_away=True)
        if not await backend.deployment.look():
            await backend.deployment.make()
            await backend.server.functions.keep(await backend.server.topology.primaries())
    except BaseException:
        await backend.aclose()
        raise
    return backend


def _sequence(event: AnyEvent) -> int:
    assert event.meta is not None
    return event.meta.sequence
