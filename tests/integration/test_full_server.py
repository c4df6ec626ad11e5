"""A server whose memory is full: commands that free memory are applied, the rest waits in order, everything starts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ResponseError
from tests.contract.chats import CONFIG, a_session, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.waiting import wait_until

from turnstream import (
    AddMessage,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    SessionNotFound,
    Ticket,
    Turnstream,
    user_message,
)
from turnstream.adapters.embedded import start_embedded_server
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.command_stream.queue import LARGEST_FREEING
from turnstream.domain.command_specs import COMMANDS, FREEING, OPERATIONS
from turnstream.errors import CommandParked, ServerFull
from turnstream.settings import Settings

GONE = 0
"""The version of a session that was deleted."""

LARGE = "x" * 200_000


@pytest.fixture
def partitions() -> int:
    return 1


@pytest.fixture
async def alone(partitions: int) -> AsyncIterator[EmbeddedDeployment]:
    """A separate server, for its configuration is changed."""
    with start_embedded_server() as server:
        settings = Settings(namespace="ts", partitions=partitions, batch_commands=10, lease=1.0)
        deployment = EmbeddedDeployment(settings.at(server.url))
        yield deployment
        await make_room(deployment)
        await deployment.aclose()


async def fill(deployment: EmbeddedDeployment, room: int = 0) -> None:
    """Leave the server room for so many bytes; 0: it is over its limit by far, whatever is deleted."""
    used = int((await deployment.raw.info("memory"))["used_memory"])
    await deployment.call("CONFIG", "SET", "maxmemory", used + room if room else 1)


async def make_room(deployment: EmbeddedDeployment) -> None:
    await deployment.call("CONFIG", "SET", "maxmemory", 0)


def added(text: str, session_id: str = "s") -> AddMessage:
    return AddMessage(session_id, user_message(text))


async def outcome_of(ticket: Ticket) -> object:
    try:
        return (await ticket).version
    except SessionNotFound:
        return SessionNotFound


async def test_sessions_and_messages_can_be_deleted(alone: EmbeddedDeployment) -> None:
    worker = await worker_of(alone)
    ts = await client_of(alone, worker=False)
    for name in ("s", "t"):
        await a_session(ts, "one", "two", session_id=name)
    await fill(alone)
    assert len(await ts.execute(RemoveMessages("t", last=1))) == 1
    assert texts_of(await ts.sessions.messages("t")) == ["one"]
    assert await ts.execute(DeleteSession("s")) is True
    assert await ts.sessions.get("s") is None
    assert not worker.task.done()


async def test_a_parked_session_can_be_discarded(alone: EmbeddedDeployment) -> None:
    await worker_of(alone)
    ts = await client_of(alone, worker=False)
    await a_session(ts, "one", session_id="s")
    keys = alone.keys.partitions[0]
    await alone.call("DEL", keys.messages("s"))
    await alone.call("SET", keys.messages("s"), "a text")
    for _ in range(2):
        with pytest.raises(CommandParked):
            await ts.execute(added(LARGE))
    await fill(alone)
    assert (await ts.admin.parked.discard("s", everything=True)).left == 0


async def test_everything_else_is_refused_and_says_why(alone: EmbeddedDeployment) -> None:
    await worker_of(alone)
    ts = await client_of(alone, worker=False)
    await a_session(ts, session_id="s")
    await fill(alone)
    for call in (ts.send(added("two"), timeout=0.3), ts.execute(added("three"), timeout=0.3)):
        with pytest.raises(ServerFull, match=r"server is full.*maxmemory") as refused:
            await call
        assert refused.value.command_id
    assert await alone.backlog(0) == 0
    await make_room(alone)
    assert (await ts.execute(added("four"))).version == 2


async def test_a_client_that_adds_without_an_end_can_delete(alone: EmbeddedDeployment) -> None:
    """A refused command is retried for a while; commands that free memory do not wait for it."""
    await worker_of(alone)
    ts = await client_of(alone, worker=False)
    for name in ("s", "t", "u"):
        await a_session(ts, session_id=name)
    await fill(alone)
    adding = [asyncio.create_task(ts.send(added(LARGE), timeout=60)) for _ in range(5)]
    # In the same turn, so that both travel together, and after commands that are refused already.
    assert await ts.execute(DeleteSession("t"), timeout=20) is True
    assert await ts.execute(DeleteSession("u"), timeout=20) is True
    assert not any(task.done() for task in adding)
    await make_room(alone)
    tickets = [await task for task in adding]
    assert [await outcome_of(ticket) for ticket in tickets] == [2, 3, 4, 5, 6]


async def test_the_order_of_one_send_many_is_kept(alone: EmbeddedDeployment) -> None:
    await worker_of(alone)
    ts = await client_of(alone, worker=False)
    await a_session(ts, session_id="s")
    await fill(alone)
    sending = asyncio.create_task(ts.send_many([added("one"), DeleteSession("s"), added("two")]))
    await client_frees(ts)
    assert not sending.done()
    await make_room(alone)
    assert [await outcome_of(ticket) for ticket in await sending] == [2, GONE, SessionNotFound]


async def client_frees(ts: Turnstream) -> None:
    """Have a command pass that only frees memory: those waiting in the sender were refused by then."""
    await ts.execute(DeleteSession("nobody"))


async def test_commands_before_a_delete_are_applied_with_it_in_order(alone: EmbeddedDeployment) -> None:
    ts = await client_of(alone, worker=False)
    tickets = [await ts.send(CreateSession(CONFIG, "s"))]
    tickets += await ts.send_many([added("one"), added("two")])
    await fill(alone)
    tickets.append(await ts.send(DeleteSession("s")))
    await worker_of(alone)
    assert [await outcome_of(ticket) for ticket in tickets] == [1, 2, 3, GONE]
    assert await alone.backlog(0) == 0


async def test_commands_after_a_delete_wait_for_room(
    alone: EmbeddedDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, the partition is kept, and a later delete takes along the commands before it."""
    ts = await client_of(alone, worker=False)
    await ts.send(CreateSession(CONFIG, "s"))
    first = await ts.send_many([added("one"), DeleteSession("s"), CreateSession(CONFIG, "t"), added("two", "t")])
    await fill(alone)
    worker = await worker_of(alone)

    def said() -> list[str]:
        return [r.message for r in caplog.records if "partition" in r.message and "changed" not in r.message]

    assert [await outcome_of(ticket) for ticket in first[:2]] == [2, GONE]
    await wait_until(lambda: bool(said()))
    owned = worker._worker._member._leases.owned[0]
    await wait_until(lambda: owned._backoff._failures >= 4)
    assert said() == ["partition cannot be written"]
    assert await alone.backlog(0) == 2
    (line,) = [r for r in caplog.records if r.message == "partition cannot be written"]
    assert "server is full" in vars(line)["reason"]
    # The partition was neither lost nor taken again.
    assert worker._worker._member._leases.owned[0] is owned

    later = await ts.send(RemoveMessages("t", last=1))
    assert [await outcome_of(ticket) for ticket in (*first[2:], later)] == [1, 2, 3]
    last = asyncio.create_task(ts.execute(added("three", "t")))
    await make_room(alone)
    assert (await last).version == 4
    # Nothing waited for room any more when there was some.
    assert set(said()) == {"partition cannot be written", "partition can be written again"}


async def test_more_than_a_batch_does_not_exceed_the_memory(alone: EmbeddedDeployment) -> None:
    ts = await client_of(alone, worker=False)
    tickets = [await ts.send(CreateSession(CONFIG, "s"))]
    tickets += await ts.send_many([added(str(number)) for number in range(15)])
    await fill(alone)
    tickets.append(await ts.send(DeleteSession("s")))
    worker = await worker_of(alone)
    owned = worker._worker._member._leases.owned[0]
    await wait_until(lambda: owned._backoff._failures >= 4)
    assert await alone.backlog(0) == len(tickets)
    await make_room(alone)
    assert [await outcome_of(ticket) for ticket in tickets] == [*range(1, len(tickets)), GONE]


async def test_a_worker_stops_while_it_waits_for_room(alone: EmbeddedDeployment) -> None:
    ts = await client_of(alone, worker=False)
    await ts.send(CreateSession(CONFIG, "s"))
    await fill(alone)
    worker = await worker_of(alone)
    owned = worker._worker._member._leases.owned[0]
    await wait_until(lambda: owned._backoff._failures >= 2)
    await worker.stop()
    assert await alone.backlog(0) == 1


@pytest.mark.parametrize("partitions", [8])
async def test_clients_and_workers_start(alone: EmbeddedDeployment) -> None:
    first = await worker_of(alone)
    ts = await client_of(alone, worker=False)
    await a_session(ts, "one", session_id="s")
    await first.stop()
    await fill(alone)
    async with Turnstream.connect(settings=alone.settings) as reader, reader.subscribe():
        assert texts_of(await reader.sessions.messages("s")) == ["one"]
    await (await RedisBackend.open(alone.settings, "test", throw_away=True, works=True)).aclose()
    worker = await worker_of(alone)
    await wait_until(lambda: len(worker.owned) == alone.settings.partitions)
    assert await ts.execute(DeleteSession("s")) is True


async def test_deleting_makes_room_for_waiting_commands(alone: EmbeddedDeployment) -> None:
    await worker_of(alone)
    ts = await client_of(alone, worker=False)
    for number in range(20):
        await a_session(ts, LARGE, session_id=f"s{number}")
    await fill(alone, room=1)
    waiting = asyncio.create_task(ts.execute(CreateSession(CONFIG, "new"), timeout=60))
    for number in range(20):
        assert await ts.execute(DeleteSession(f"s{number}"))
    assert (await waiting).id == "new"


# ── what a producer may say frees memory ──


def words(kind: str, data: bytes = b"{}") -> tuple[Any, ...]:
    return ("100", "c1", kind, data, "0")


@pytest.mark.parametrize("kind", sorted((COMMANDS | OPERATIONS).keys() | {"", "unknown"}))
async def test_only_commands_that_free_memory_count_as_such(alone: EmbeddedDeployment, kind: str) -> None:
    backend = await alone.open()
    script, keys = backend.server.scripts.enqueue_freeing, [alone.keys.partitions[0].commands]
    try:
        if kind in FREEING:
            assert await script.run(backend.server.calls(0), keys, words(kind)) == -1
        else:
            with pytest.raises(ResponseError, match="FREEING c1"):
                await script.run(backend.server.calls(0), keys, words(kind))
        assert await alone.backlog(0) == (kind in FREEING)
    finally:
        await backend.aclose()


async def test_and_it_is_small(alone: EmbeddedDeployment) -> None:
    backend = await alone.open()
    script, keys = backend.server.scripts.enqueue_freeing, [alone.keys.partitions[0].commands]
    with pytest.raises(ResponseError, match="FREEING"):
        await script.run(backend.server.calls(0), keys, words("delete-session", bytes(LARGEST_FREEING + 1)))
    assert await script.run(backend.server.calls(0), keys, words("delete-session", bytes(LARGEST_FREEING))) == -1
    assert await script.run(backend.server.calls(0), keys, ("1", *words("delete-session")[1:])) == 1
    large = bytes(LARGEST_FREEING + 1)
    for command in (("100", large, "delete-session", "{}", "0"), (*words("delete-session")[:-1], "2", "a", large)):
        with pytest.raises(ResponseError, match="FREEING"):
            await script.run(backend.server.calls(0), keys, command)
    await backend.aclose()
