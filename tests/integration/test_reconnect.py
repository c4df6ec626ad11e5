"""Connections die, the server goes away and comes back: nothing is lost, doubled or reordered, nothing is silent."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, persistently, texts_of
from tests.contract.deployments import client_of, opened
from tests.contract.hearing import take
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.samples import command
from tests.contract.workers import worker_of
from tests.waiting import SOON, wait_until

from turnstream import (
    AddMessage,
    CreateSession,
    SessionAlreadyExists,
    Turnstream,
    Unavailable,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.adapters.embedded import start_embedded_server
from turnstream.adapters.redis.command_stream.queue import RedisQueue
from turnstream.client.sending.requests import MAX_BATCH
from turnstream.commands import Command
from turnstream.events import MessageAdded
from turnstream.ports import START, CommandEntry
from turnstream.settings import Settings

KILLS = 5


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 4, "lease": 1.0}


async def killed(real: EmbeddedDeployment, *kinds: str) -> int:
    """Kill all connections but the test's own."""
    return sum([await real.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes") for kind in kinds])


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_connections_are_killed_while_commands_flow(real: EmbeddedDeployment) -> None:
    workers = [await worker_of(real), await worker_of(real)]
    clients = [await client_of(real, worker=False) for _ in range(2)]
    names = [(await a_session(clients[0])).id for _ in range(6)]
    answered: list[str] = []

    async def chat(number: int, name: str) -> None:
        for turn in range(50):
            await persistently(clients[number % 2], AddMessage(name, user_message(str(turn))))
            answered.append(name)

    chats = [asyncio.create_task(chat(number, name)) for number, name in enumerate(names)]
    for kill in range(1, KILLS + 1):
        await wait_until(partial(_longer_than, answered, kill * 300 // (KILLS + 1)))
        assert await killed(real, "normal", "pubsub") > 3
    await asyncio.gather(*chats)
    for name in names:
        session = await clients[0].sessions.get(name)
        assert session is not None
        assert texts_of(session.messages) == [str(turn) for turn in range(50)]
        assert session.version == 51
    assert not any(worker.task.done() for worker in workers)
    await check_events(real, names)


def _longer_than(values: list[str], length: int) -> bool:
    return len(values) > length


async def check_events(real: EmbeddedDeployment, names: list[str]) -> None:
    """Each session's events agree: one creation, then every version once."""
    events = [event for partition in range(4) for event in await real.events(partition)]
    for name in names:
        assert [event.version for event in events if event.session_id == name] == list(range(1, 52))


@pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 1.0, "batch_commands": 50}])
async def test_the_workers_connections_are_killed_while_a_backlog_is_applied(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    commands: list[Command[Any]] = [CreateSession(CONFIG, "s")]
    commands += [AddMessage("s", user_message(str(number))) for number in range(5_000)]
    tickets = await client.send_many(commands)
    await worker_of(real)
    for kill in range(KILLS, 0, -1):
        await wait_until(partial(_backlog_below, real, kill * 5_000 // (KILLS + 1)))
        # The client listens on a connection for replies, which is spared.
        await killed(real, "normal")
    assert [(await ticket).version for ticket in tickets] == list(range(1, 5_002))
    await wait_until(lambda: _is_readable(client))
    assert texts_of(await client.sessions.messages("s")) == [str(number) for number in range(5_000)]


async def _backlog_below(real: EmbeddedDeployment, limit: int) -> bool:
    return await real.backlog(0) < limit


async def _is_readable(client: Turnstream) -> bool:
    with suppress(Unavailable):
        await client.sessions.count()
        return True
    return False


async def test_a_lost_subscription_is_opened_again_and_misses_nothing(real: EmbeddedDeployment) -> None:
    await worker_of(real)
    client = await client_of(real, worker=False)
    session = await a_session(client)
    async with client.subscribe(MessageAdded) as events:
        for number in range(20):
            await killed(real, "pubsub")
            await persistently(client, AddMessage(session.id, user_message(str(number))))
        assert [event.version for event in await take(events, 20)] == list(range(2, 22))


async def test_a_waiting_client_gets_its_reply_over_another_connection(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    waiting = await client.send(CreateSession(CONFIG, "s"))
    await killed(real, "pubsub")
    await wait_until(lambda: _backlog_above(real, 1))  # sent again, after the first copy
    await worker_of(real)
    assert (await waiting).version == 1
    assert (await client.execute(AddMessage("s", user_message("one")))).version == 2


async def _backlog_above(real: EmbeddedDeployment, limit: int) -> bool:
    return sum([await real.backlog(partition) for partition in range(4)]) > limit


async def test_replies_lost_with_their_connection_are_sent_again(real: EmbeddedDeployment) -> None:
    """The commands are applied without a listener: only their recorded outcomes can answer."""
    client = await client_of(real, worker=False)
    session = await client.send(CreateSession(CONFIG, "s"))
    tickets = await client.send_many([AddMessage("s", user_message(str(number))) for number in range(300)])
    worker = await worker_of(real)
    await wait_until(lambda: _killed_until_applied(real))
    assert [(await ticket).version for ticket in (session, *tickets)] == list(range(1, 302))
    assert texts_of(await client.sessions.messages("s")) == [str(number) for number in range(300)]
    assert not worker.task.done()


async def _killed_until_applied(real: EmbeddedDeployment) -> bool:
    await killed(real, "pubsub")
    return not await _backlog_above(real, 0)


async def test_a_read_of_the_stream_survives(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    reading = asyncio.create_task(backend.queue.read({0: START}, 10, SOON))
    await wait_until(lambda: _kills_a_reader(real, reading))
    with pytest.raises(Unavailable):
        await reading
    # The other connection was killed as well, and may find out only now.
    with suppress(Unavailable):
        await backend.queue.publish(0, [command("lost")])
    await backend.queue.publish(0, [command("c")])
    assert (await backend.queue.read({0: START}, 10, 1.0))[0][-1].fields[b"id"] == b"c"


async def _kills_a_reader(real: EmbeddedDeployment, reading: "asyncio.Task[Any]") -> bool:
    await killed(real, "normal")
    return reading.done()


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_everything_is_flushed_while_a_worker_runs(real: EmbeddedDeployment) -> None:
    client = await client_of(real)
    for number in range(3):
        async with client.subscribe() as events:
            session = await client.execute(CreateSession(CONFIG, "s"))
            await client.execute(AddMessage("s", user_message("one")))
            created, added = await take(events, 2)
        assert session.version == 1
        assert created.meta is not None
        assert added.meta is not None
        assert (created.meta.sequence, added.meta.sequence, added.meta.previous_of_session) == (1, 2, 1), number
        await real.call("FLUSHALL")
        assert await client.sessions.get("s") is None


async def test_commands_flow_while_everything_is_flushed(real: EmbeddedDeployment) -> None:
    await worker_of(real)
    client = await client_of(real, worker=False)
    for _ in range(3):
        tickets = await client.send_many([CreateSession(CONFIG, f"s{number}") for number in range(50)], timeout=0.3)
        await real.call("FLUSHALL")
        answers = await asyncio.gather(*(_answer(ticket) for ticket in tickets))
        # Whatever the flush has taken is gone; nothing else is.
        assert not [answer for answer in answers if isinstance(answer, Exception) and not is_lost(answer)]
    await persistently(client, CreateSession(CONFIG, "last"))
    assert await client.sessions.exists("last")


async def test_unapplied_commands_lost_to_a_flush_are_sent_again_in_order(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    tickets = await client.send_many([CreateSession(CONFIG, "s"), *(AddMessage("s", user_message(t)) for t in "ab")])
    await real.call("FLUSHALL")
    await killed(real, "pubsub")
    await worker_of(real)
    assert [(await ticket).version for ticket in tickets] == [1, 2, 3]
    assert texts_of(await client.sessions.messages("s")) == ["a", "b"]


async def test_the_part_of_a_send_many_lost_to_a_flush_precedes_the_rest(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await client_of(real, worker=False)
    connections, publish, publications = client._gateway._pending.connections, RedisQueue.publish, count()

    async def lost_in_between(queue: RedisQueue, partition: int, entries: Sequence[CommandEntry]) -> None:
        if next(publications) == 1:
            before = connections[partition]
            await real.call("FLUSHALL")
            await killed(real, "pubsub")
            await wait_until(lambda: connections[partition] > before)
            raise Unavailable("the server is gone")
        await publish(queue, partition, entries)

    monkeypatch.setattr(RedisQueue, "publish", lost_in_between)
    texts = [str(number) for number in range(MAX_BATCH + 10)]
    tickets = await client.send_many([CreateSession(CONFIG, "s"), *(AddMessage("s", user_message(t)) for t in texts)])
    await worker_of(real)
    assert [(await ticket).version for ticket in tickets] == list(range(1, len(tickets) + 1))
    assert texts_of(await client.sessions.messages("s")) == texts


async def test_commands_lost_to_a_flush_follow_those_queued_since(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    taken = await client.send(AddMessage("s", user_message("taken")))
    await real.call("FLUSHALL")
    kept = await client.send_many([CreateSession(CONFIG, "s"), AddMessage("s", user_message("kept"))])
    await worker_of(real)
    assert [(await ticket).version for ticket in kept] == [1, 2]
    await killed(real, "pubsub")
    assert (await taken).version == 3
    assert texts_of(await client.sessions.messages("s")) == ["kept", "taken"]


async def _answer(ticket: Any) -> Any:  # noqa: ANN401 - a ticket, an answer
    try:
        return await ticket
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return error


def is_lost(error: Exception) -> bool:
    return isinstance(error, Unavailable | SessionAlreadyExists)


async def test_the_server_is_restarted(tmp_path: Path, overrides: dict[str, Any]) -> None:
    with start_embedded_server(tmp_path) as first:
        port = first.port
        settings = Settings(namespace="restart", **overrides).at(first.url)
        real = EmbeddedDeployment(settings)
        worker = await worker_of(real)
        client = await client_of(real, worker=False)
        session = await a_session(client, "one", "two")
        # `everysec` may lose the last second; a clean stop writes everything.
    with pytest.raises(Unavailable):
        await client.execute(UpdateTokenMetrics(session.id), timeout=1.0)
    with pytest.raises(Unavailable):
        await client.sessions.get(session.id)
    with start_embedded_server(tmp_path, port=port):
        await persistently(client, AddMessage(session.id, user_message("three")))
        assert texts_of(await client.sessions.messages(session.id)) == ["one", "two", "three"]
        assert not worker.task.done()
        await real.aclose()


async def test_a_server_that_is_a_replica_for_a_while(overrides: dict[str, Any]) -> None:
    """It takes no writes, and then its replication id is another one; earlier writes are still there."""
    with start_embedded_server() as server:
        real = EmbeddedDeployment(Settings(namespace="failover", **overrides).at(server.url))
        worker = await worker_of(real)
        client = await client_of(real, worker=False)
        session = await a_session(client, "one")
        await real.call("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable):
            await client.send(AddMessage(session.id, user_message("lost")), timeout=0.3)
        assert texts_of(await client.sessions.messages(session.id)) == ["one"]
        # So long that the worker cannot keep its leases.
        await wait_until(lambda: _all_leases_ran_out(real))
        assert not worker.task.done()
        await real.call("REPLICAOF", "NO", "ONE")
        await persistently(client, AddMessage(session.id, user_message("two")))
        assert texts_of(await client.sessions.messages(session.id)) == ["one", "two"]
        assert not worker.task.done()
        await real.aclose()


async def _all_leases_ran_out(real: EmbeddedDeployment) -> bool:
    return int(await real.call("EXISTS", *(keys.lease for keys in real.keys.partitions))) == 0


async def test_no_server_answers_there(tmp_path: Path) -> None:
    with start_embedded_server() as server:
        address = server.url.removeprefix("redis://")
    with pytest.raises(Unavailable) as unavailable:
        await Turnstream.connect(f"redis://me:secret@{address}")
    assert address in str(unavailable.value)
    assert "secret" not in str(unavailable.value)
