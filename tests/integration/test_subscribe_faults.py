"""Subscriptions under faults: no event is missing or delivered twice, and every loss is reported."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from redis import RedisError
from tests.chaos.proxy import Proxy
from tests.contract.chats import a_session, id_in, messages_of, persistently
from tests.contract.deployments import client_of
from tests.contract.hearing import take, take_resync
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.integration.groups import OnGroup, on_group
from tests.topologies import Node, running_cluster, running_sentinels
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, AddMessages, Turnstream, Unavailable, user_message
from turnstream.adapters.embedded import start_embedded_server
from turnstream.client.subscriptions import feed
from turnstream.client.subscriptions.subscription import EventSubscription
from turnstream.events import MessageAdded, SessionDeleted
from turnstream.settings import Settings

ROUNDS = 60
"""Commands that a publisher sends, of `EACH` messages."""
EACH = 10
KILLS = 25


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 2, "lease": 1.0}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often whether anything was missed."""
    monkeypatch.setattr(feed, "HEAD_CHECK_INTERVAL_S", 0.1)


async def publish(client: Turnstream, names: Iterable[str], rounds: int = ROUNDS) -> None:
    """Send commands as fast as they are answered, to all sessions at the same time."""

    async def chat(name: str) -> None:
        for _ in range(rounds):
            await persistently(client, AddMessages(name, messages_of("x" * EACH)))

    await asyncio.gather(*map(chat, names))


async def take_all(events: EventSubscription[MessageAdded], names: Iterable[str], rounds: int = ROUNDS) -> None:
    """Take what `publish` makes happen: every event once, those of each session in their order."""
    left = {name: [version for version in range(2, rounds + 2) for _ in range(EACH)] for name in names}
    while any(left.values()):
        (event,) = await take(events, 1)
        assert event.version == left[event.session_id].pop(0)


async def sessions(client: Turnstream) -> list[str]:
    """Create a session in each of two partitions."""
    return [(await a_session(client, session_id=id_in(number, 2))).id for number in (0, 1)]


# ── the subscriber's connections ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("types", [(), (MessageAdded,), (MessageAdded, SessionDeleted)])
async def test_connections_are_killed_at_full_speed(real: EmbeddedDeployment, types: tuple[Any, ...]) -> None:
    await worker_of(real)
    publisher, watcher = await client_of(real, worker=False), await client_of(real, worker=False)
    names = await sessions(publisher)
    async with watcher.subscribe(*types) as events:
        publishing = asyncio.create_task(publish(publisher, names))
        taking = asyncio.create_task(take_all(events, names))
        for kill in range(KILLS):
            kinds = ("pubsub", "normal") if kill % 3 == 0 else ("pubsub",)
            for kind in kinds:
                await real.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            await asyncio.sleep(0.03)
        await publishing
        await taking


async def test_events_from_a_reconnect_need_no_later_event(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HEAD_CHECK_INTERVAL_S", 10 * SOON)
    await worker_of(real)
    publisher, watcher = await client_of(real, worker=False), await client_of(real, worker=False)
    session = await a_session(publisher)
    async with watcher.subscribe(MessageAdded) as events:
        for number in range(KILLS):
            await real.call("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
            await persistently(publisher, AddMessage(session.id, user_message(str(number))))
            (event,) = await take(events, 1)
            assert event.version == number + 2


@pytest.fixture
async def proxy(real: EmbeddedDeployment) -> AsyncIterator[Proxy]:
    running = Proxy(int(real.settings.redis_url.get_secret_value().rpartition(":")[2].partition("/")[0]))
    await running.start()
    yield running
    await running.aclose()


async def through(proxy: Proxy, real: EmbeddedDeployment, **changes: float) -> Turnstream:
    """Open a client that comes through the proxy."""
    client = await Turnstream.connect(settings=replace(real.settings.at(proxy.url), **changes))
    real.resources.push_async_callback(client.aclose)
    return client


async def test_a_connection_that_is_silently_dead(real: EmbeddedDeployment, proxy: Proxy) -> None:
    """Only a request without an answer reveals it."""
    await worker_of(real)
    publisher = await client_of(real, worker=False)
    names = await sessions(publisher)
    watcher = await through(proxy, real, response_timeout=0.3, connect_timeout=0.3)
    async with watcher.subscribe(MessageAdded) as events:
        for _ in range(3):
            await publish(publisher, names, 1)
            await take(events, 2 * EACH)
            swallowed = proxy.swallowed
            proxy.silent = True
            await publish(publisher, names, 1)
            await wait_until(lambda: proxy.swallowed > swallowed)  # noqa: B023 - awaited in this round
            assert not events._buffer
            proxy.silent = False
            await take(events, 2 * EACH)


async def test_only_the_pubsub_connection_is_dead(
    real: EmbeddedDeployment, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The streams can be read, so no event is missing. It is noticed anyway: live events would be late forever."""
    monkeypatch.setattr(feed, "HEAD_CHECK_INTERVAL_S", 1.0)
    await worker_of(real)
    publisher = await client_of(real, worker=False)
    names = await sessions(publisher)
    watcher = await through(proxy, real, response_timeout=0.3)
    async with watcher.subscribe(MessageAdded) as events:
        await publish(publisher, names, 1)
        await take(events, 2 * EACH)
        first = events._supervisor._connection
        proxy.silent = True
        await publish(publisher, names, 1)
        await wait_until(lambda: proxy.swallowed > 0)
        proxy.silent = False
        await take(events, 2 * EACH)
        await wait_until(lambda: events._supervisor._connection is not first)


async def test_a_subscriber_pauses_while_commands_continue(real: EmbeddedDeployment, proxy: Proxy) -> None:
    await worker_of(real)
    publisher = await client_of(real, worker=False)
    names = await sessions(publisher)
    watcher = await through(proxy, real, subscriber_buffer=20)
    async with watcher.subscribe(MessageAdded, SessionDeleted) as events:
        publishing = asyncio.create_task(publish(publisher, names))
        left = [version for version in range(2, ROUNDS + 2) for _ in range(2 * EACH)]
        while left:
            for _ in range(min(50, len(left))):
                await take(events, 1)
                left.pop()
            await asyncio.sleep(0.02)
            assert len(events._buffer) <= 2 * 20  # a page, in addition to live events
            if len(left) % 400 == 0:
                proxy.cut()
        await publishing


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_server_is_killed_and_comes_back(tmp_path: Path, overrides: dict[str, Any]) -> None:
    with start_embedded_server(tmp_path) as first:
        port = first.port
        real = EmbeddedDeployment(Settings(namespace="killed", **overrides).at(first.url))
        await real.call("CONFIG", "SET", "appendfsync", "always")
        await worker_of(real)
        publisher, watcher = await client_of(real, worker=False), await client_of(real, worker=False)
        names = await sessions(publisher)
        events = watcher.subscribe(MessageAdded)
        await events.__aenter__()
        publishing = asyncio.create_task(publish(publisher, names))
        await take(events, 2)
        os.kill(first.pid, signal.SIGKILL)
    with start_embedded_server(tmp_path, port=port):
        await publishing
        seen = await take(events, 2 * ROUNDS * EACH - 2)
        assert len({event.meta.event_id for event in seen if event.meta}) == len(seen)
        await events.aclose()
        await real.aclose()


async def is_lagging(primary: Node, replica: Node) -> None:
    """Let a replica get no more of what its primary writes."""
    replica.call("CONFIG", "SET", "masteruser", "nobody")
    replica.call("CONFIG", "SET", "masterauth", "wrong")
    primary.call("CLIENT", "KILL", "TYPE", "replica")
    await wait_until(lambda: primary.call("INFO", "replication")["connected_slaves"] == 0)


async def lose_delivered_events(
    group: OnGroup, primary: Node, replica: Node, fail_over: Callable[[], object], session_id: str
) -> None:
    """Receive events that no replica has, lose the primary, and get exactly this reported."""
    await worker_of(group)
    client = await client_of(group, worker=False)
    async with client.subscribe(MessageAdded) as events:
        await a_session(client, "kept", session_id=session_id)
        (kept,) = await take(events, 1)
        await wait_until(lambda: _is_copied(primary, replica))
        await is_lagging(primary, replica)
        for text in ("lost", "lost, too"):
            await client.execute(AddMessage(session_id, user_message(text)))
        seen = await take(events, 2)
        await asyncio.to_thread(fail_over)
        await persistently(client, AddMessage(session_id, user_message("again")))
        gone = await take_resync(events)
        assert seen[-1].meta
        assert kept.meta
        assert (gone.reason, gone.lost) == ("failover", 2)
        assert gone.seen == (seen[-1].meta.generation, seen[-1].meta.sequence)
        assert gone.resumed.sequence == kept.meta.sequence
        (again,) = await take(events, 1)
        assert again.meta
        assert (again.version, again.meta.sequence) == (kept.version + 1, kept.meta.sequence + 1)


def _is_copied(primary: Node, replica: Node) -> bool:
    written: int = primary.call("INFO", "replication")["master_repl_offset"]
    return bool(replica.call("INFO", "replication")["slave_repl_offset"] >= written)


async def test_delivered_events_are_lost_in_a_sentinel_failover() -> None:
    with running_sentinels() as failing:
        await failing.agreed()
        async with on_group(failing.url) as group:
            primary, replica = failing.servers
            await lose_delivered_events(group, primary, replica, primary.stop, "s")


async def test_delivered_events_are_lost_in_a_cluster_failover() -> None:
    with running_cluster(1_000) as moving:
        async with on_group(moving.url) as group:
            primary = moving.holder(group.keys.partitions[0].partition)
            replica = moving.replica_of(primary)
            await lose_delivered_events(
                group, primary, replica, lambda: moving.fail_over(primary, replica), id_in(0, 4)
            )


# ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_closing_while_the_server_is_away(overrides: dict[str, Any]) -> None:
    with start_embedded_server() as server:
        client = await Turnstream.connect(settings=Settings(namespace="closing", **overrides).at(server.url))
    before = asyncio.all_tasks()
    with pytest.raises(Unavailable):
        await client.subscribe().__aenter__()
    assert asyncio.all_tasks() <= before
    await client.aclose()


async def test_closing_when_the_server_went_away(overrides: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.all_tasks()
    with start_embedded_server() as server:
        client = await Turnstream.connect(settings=Settings(namespace="closing", **overrides).at(server.url))
        events = client.subscribe()
        await events.__aenter__()
        waiting = asyncio.create_task(_collected(events))
    await wait_until(lambda: "subscription interrupted" in caplog.text)
    assert not waiting.done()
    async with asyncio.timeout(SOON / 2):
        await events.aclose()
        assert await waiting == []
        await client.aclose()
    assert asyncio.all_tasks() <= before


async def test_closing_while_no_server_answers(real: EmbeddedDeployment, proxy: Proxy) -> None:
    """It does not wait for an answer; nothing that was open is left."""
    await worker_of(real)
    watcher = await through(proxy, real, response_timeout=2 * SOON)
    before = asyncio.all_tasks()
    events = watcher.subscribe()
    await events.__aenter__()
    proxy.silent = True
    await wait_until(lambda: proxy.swallowed > 0)
    async with asyncio.timeout(SOON / 2):
        await events.aclose()
        with suppress(RedisError):
            await watcher.aclose()
    # The proxy's own tasks remain until it has noticed.
    await wait_until(lambda: not proxy.open)
    await wait_until(lambda: not {t for t in asyncio.all_tasks() - before if t.get_name() == "subscription"})


async def _collected(events: EventSubscription[Any]) -> list[Any]:
    return [event async for event in events]
