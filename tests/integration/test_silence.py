"""Connections that are dead without saying so, and servers that hang: each is found, and what it owed is asked again.

Nothing but the heartbeat can find them: proxies acknowledge everything that they swallow, and an answer may never come.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, cast

import pytest
from msgspec.structs import replace
from tests.chaos.proxy import Proxy, Swallowed
from tests.contract.chats import a_session, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.integration.groups import OnGroup
from tests.integration.ways import Ways, to_a_cluster, to_one_server, to_what_a_sentinel_names
from tests.topologies import RunningSentinels, running_cluster, running_sentinels
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, ResyncRequired, Turnstream, Unavailable, user_message
from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.adapters.redis.backend import RedisBackend, server_at
from turnstream.adapters.redis.connection.cluster import Cluster
from turnstream.events import MessageAdded
from turnstream.settings import Settings

HEARTBEAT = 1.0
NEVER = 100 * SOON
PATIENT: dict[str, Any] = {"partitions": 2, "lease": 2.0, "response_timeout": NEVER, "heartbeat": HEARTBEAT}

SITES: dict[str, Callable[[], AbstractAsyncContextManager[Ways]]] = {
    "one server": to_one_server,
    "a cluster": to_a_cluster,
    "Sentinel": to_what_a_sentinel_names,
}


@pytest.fixture(params=SITES)
async def ways(request: pytest.FixtureRequest) -> AsyncIterator[Ways]:
    async with SITES[request.param]() as found:
        yield found


class Party:
    """Every kind of process with connections: a client, a live subscription, a durable one's member, and a worker."""

    def __init__(self, ways: Ways, client: Turnstream, session_id: str) -> None:
        self.client = client
        self._ways = ways
        self._session_id = session_id
        self._sent = ["before"]
        self.heard: list[str] = []
        self.handled: list[str] = []

    async def listen(self, listening: asyncio.Event) -> None:
        async with self.client.subscribe(MessageAdded) as events:
            listening.set()
            async for event in events:
                self.heard += _texts(event)

    async def handle(self, event: MessageAdded | ResyncRequired) -> None:
        self.handled += _texts(event)

    async def works(self) -> None:
        """Have a command applied and its result read, and see that both listeners have got all."""
        self._sent.append(f"message {len(self._sent)}")
        await self.client.execute(AddMessage(self._session_id, user_message(self._sent[-1])), timeout=2 * SOON)
        assert texts_of(await self.client.sessions.messages(self._session_id)) == self._sent
        await wait_until(self._all_came, 2 * SOON)

    def _all_came(self) -> bool:
        # An event that a member has handled, and could not checkpoint, is handled again.
        return self.heard == [*dict.fromkeys(self.handled)] == self._sent[1:]


def _texts(event: MessageAdded | ResyncRequired) -> list[str]:
    assert isinstance(event, MessageAdded)
    return texts_of([event.message])


@asynccontextmanager
async def party_on(ways: Ways, durability: Literal["memory", "fsync"] = "memory") -> AsyncGenerator[Party]:
    deployment = OnGroup(ways.url, "silence")
    deployment.settings = Settings(namespace="silence", durability=durability, **PATIENT).at(ways.url)
    async with deployment.resources:
        await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        party = Party(ways, client, (await a_session(client, "before")).id)
        listening = asyncio.Event()
        member = client.consumer("all", MessageAdded)
        tasks = [asyncio.create_task(party.listen(listening)), asyncio.create_task(member.run(party.handle))]
        await listening.wait()
        await wait_until(lambda: member._member is not None and len(member._member.owned) == PATIENT["partitions"])
        yield party
        member.stop()
        await tasks[1]
        tasks[0].cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("what", ["both", "requests", "replies"])
async def test_all_connections_are_dead_at_once(ways: Ways, what: Swallowed) -> None:
    async with party_on(ways) as party:
        await party.works()
        assert ways.swallow(what) > 6
        await party.works()
        await wait_until(lambda: ways.swallowing == 0)


@pytest.mark.parametrize("what", ["both", "requests", "replies"])
async def test_idle_connections_are_found_dead(ways: Ways, what: Swallowed) -> None:
    async with party_on(ways) as party:
        await party.works()
        ways.swallow(what)
        await wait_until(lambda: ways.swallowing == 0)
        await party.works()


@pytest.mark.parametrize("durability", ["memory", "fsync"])
async def test_each_connection_is_found_dead_even_if_the_others_live(
    ways: Ways, durability: Literal["memory", "fsync"]
) -> None:
    """The one that was opened first, again and again: so each has its turn."""
    async with party_on(ways, durability=durability) as party:
        for proxy in ways.proxies:
            for _ in range(proxy.open):
                await party.works()
                proxy.swallow_oldest()
                await party.works()
                await wait_until(lambda: ways.swallowing == 0)
        await party.works()


async def test_a_balancer_that_forgets_idle_connections_has_none_to_forget() -> None:
    async with to_one_server() as ways, party_on(ways) as party:
        await party.works()
        (proxy,) = ways.proxies
        proxy.forgets_after = 3 * HEARTBEAT
        backend = cast("RedisBackend", party.client._backend)
        calls = backend.server.calls(0)
        before = await calls.call("CLIENT", "ID")
        began = time.monotonic()
        await wait_until(lambda: time.monotonic() > began + 2 * proxy.forgets_after)
        assert ways.swallowing == 0
        assert await calls.call("CLIENT", "ID") == before
        await party.works()


async def test_a_connection_is_not_given_up_because_something_held_up_the_event_loop(real: EmbeddedDeployment) -> None:
    settings = replace(real.settings, heartbeat=HEARTBEAT)
    backend = await RedisBackend.open(settings, "test", throw_away=True)
    calls = backend.server.calls(0)
    before = await calls.call("CLIENT", "ID")
    asked = asyncio.create_task(calls.call("ECHO", "a"))
    await asyncio.sleep(0)
    time.sleep(2 * HEARTBEAT)  # noqa: ASYNC251 - this is what is tried
    assert await asked == b"a"
    assert await calls.call("CLIENT", "ID") == before
    await backend.aclose()


# ── servers that hang ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hanging() -> Iterator[EmbeddedServer]:
    """A server whose process is stopped; the system still accepts connections for it."""
    with start_embedded_server() as server:
        os.kill(server.pid, signal.SIGSTOP)
        yield server
        os.kill(server.pid, signal.SIGCONT)


async def test_connecting_to_a_hanging_server_fails_in_time(hanging: EmbeddedServer) -> None:
    settings = Settings(connect_timeout=0.3, response_timeout=NEVER, heartbeat=NEVER).at(hanging.url)
    with pytest.raises(Unavailable, match=r"did not answer within 0\.3 s"):
        await Turnstream.connect(settings=settings)


async def test_a_primary_that_hangs_is_replaced(failing: RunningSentinels) -> None:
    await failing.agreed()
    deployment = OnGroup(failing.url, "silence")
    deployment.settings = Settings(namespace="silence", connect_timeout=1.0, **PATIENT).at(failing.url)
    async with deployment.resources:
        await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        session = await a_session(client, "one")
        primary, replica = failing.servers
        primary.process.server.send_signal(signal.SIGSTOP)
        await client.execute(AddMessage(session.id, user_message("two")), timeout=3 * SOON)
        assert replica.call("ROLE")[0] == "master"
        await client.execute(AddMessage(session.id, user_message("three")), timeout=SOON)
        assert texts_of(await client.sessions.messages(session.id)) == ["one", "two", "three"]


@pytest.fixture
def failing() -> Iterator[RunningSentinels]:
    with running_sentinels() as running:
        yield running
        for node in (*running.servers, *running.sentinels):
            node.process.server.send_signal(signal.SIGCONT)


async def test_hanging_sentinels_delay_no_connection(failing: RunningSentinels) -> None:
    await failing.agreed()
    for sentinel in failing.sentinels[:2]:
        sentinel.process.server.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(SOON):
        topology = server_at(Settings(connect_timeout=NEVER, **PATIENT).at(failing.url), "test").topology
        assert await topology.calls("key").call("PING") == b"PONG"
    await topology.aclose()


async def test_a_hanging_node_does_not_block_the_slot_map() -> None:
    with running_cluster(replicas=False) as running:
        running.nodes[0].process.server.send_signal(signal.SIGSTOP)
        settings = Settings(connect_timeout=NEVER, response_timeout=NEVER, heartbeat=NEVER).at(running.url)
        topology = server_at(settings, "test").topology
        assert isinstance(topology, Cluster)
        async with asyncio.timeout(SOON):
            assert (await topology.holder(0)).port == running.nodes[0].port
        running.nodes[0].process.server.send_signal(signal.SIGCONT)
        await topology.aclose()


async def test_a_read_is_asked_again_and_a_write_is_not() -> None:
    async with to_one_server() as ways:
        (proxy,) = ways.proxies
        topology = server_at(Settings(**PATIENT).at(ways.url), "test").topology
        calls = topology.calls("key")
        await calls.call("SET", "key", 1)
        proxy.swallow("replies")
        assert await calls.call("ZCARD", "none") == 0
        proxy.swallow("replies")
        with pytest.raises(Unavailable, match=r"did not answer for 1 s"):
            await calls.call("INCR", "key")
        await topology.aclose()


async def test_connections_to_a_former_server_are_closed_with_it(real: EmbeddedDeployment) -> None:
    """Also a healthy connection: the same address may now belong to another server."""
    proxy = Proxy(int(real.settings.redis_url.get_secret_value().rpartition(":")[2]))
    await proxy.start()
    topology = server_at(replace(real.settings, **PATIENT).at(proxy.url), "test").topology
    await topology.calls("key").call("PING")
    own = await topology.connect("key")
    proxy.swallow_oldest()
    assert (proxy.open, proxy.swallowing) == (2, 1)
    await wait_until(lambda: proxy.open == 0)
    await own.disconnect(nowait=True)
    await topology.aclose()
    await proxy.aclose()
