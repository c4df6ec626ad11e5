"""A key of another type parks one session if it is a session's, or makes a partition wait (design §3)."""

import logging
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.samples import batch_of, created, taken
from tests.contract.workers import worker_of
from tests.waiting import wait_until

from turnstream import AddMessage, CreateSession, InvalidCommand, RemoveMessages, Ticket, Turnstream, user_message
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.codec.records import encode_parked_session
from turnstream.domain.commands import QueueProgress, RedriveParked
from turnstream.errors import CommandParked, ConfigurationError
from turnstream.ports import ParkedSession

NAMES = [f"s{number}" for number in range(8)]
VICTIM = "s5"


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1}


def added(text: str, session_id: str) -> AddMessage:
    return AddMessage(session_id, user_message(text))


async def told(ticket: Ticket) -> object:
    try:
        return (await ticket).version
    except CommandParked:
        return CommandParked


async def sessions_of(real: EmbeddedDeployment, names: list[str]) -> Turnstream:
    """Create sessions with a message each, by a worker that is gone then."""
    worker = await worker_of(real)
    ts = await client_of(real, worker=False)
    for name in names:
        await a_session(ts, "one", session_id=name)
    await worker.stop()
    return ts


@pytest.mark.parametrize("kind", ["session", "messages", "order"])
async def test_one_session_is_parked_and_the_rest_of_the_batch_applied(
    real: EmbeddedDeployment, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ts = await sessions_of(real, NAMES)
    key = getattr(real.keys.partitions[0], kind)(VICTIM)
    await real.call("RENAME", key, f"{key}:away")
    await real.call("SET", key, "a secret")
    tickets = await ts.send_many([added(text, name) for text in ("two", "three") for name in NAMES])
    worker = await worker_of(real)
    healthy = [3, 4]
    for name in NAMES:
        mine = [await told(ticket) for ticket in tickets if ticket.session_id == name]
        assert mine == ([CommandParked] * 2 if name == VICTIM else healthy)
    (info,) = [each async for each in ts.admin.parked.list()]
    assert (info.session_id, info.commands) == (VICTIM, 2)
    parked = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.message, vars(record)["session_id"]) for record in parked] == [("command parked", VICTIM)]
    assert "a secret" not in caplog.text

    # It fails again until the key is right.
    progress = await ts.admin.parked.redrive(VICTIM)
    assert (progress.done, progress.left) == (0, 2)
    assert progress.error
    await real.call("RENAME", f"{key}:away", key)
    assert await ts.admin.parked.redrive(VICTIM) == QueueProgress(done=2, left=0)
    assert texts_of(await ts.sessions.messages(VICTIM)) == ["one", "two", "three"]
    assert not worker.task.done()


async def test_two_of_them_in_one_batch(real: EmbeddedDeployment) -> None:
    ts = await sessions_of(real, NAMES)
    for victim in ("s0", "s7"):
        await real.call("DEL", real.keys.partitions[0].messages(victim))
        await real.call("SET", real.keys.partitions[0].messages(victim), "text")
    commands = [*(added("two", name) for name in NAMES), *(RemoveMessages(name, last=1) for name in NAMES)]
    tickets = await ts.send_many(commands)
    await worker_of(real)
    answers = [await told(ticket) for ticket in tickets]
    expected: list[object] = [CommandParked, 3, 3, 3, 3, 3, 3, CommandParked]
    assert answers == [*expected, *(CommandParked if e is CommandParked else 4 for e in expected)]
    # Parked commands do not disturb later batches: they are not read.
    assert await told(await ts.send(added("three", "s0"))) is CommandParked
    assert await told(await ts.send(added("three", "s1"))) == 5


@pytest.mark.parametrize("kind", ["index", "events", "parked"])
async def test_a_partition_that_cannot_be_written_waits_and_says_so_once(
    real: EmbeddedDeployment, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the whole partition parks no session."""
    ts = await sessions_of(real, ["s", "t"])
    key = getattr(real.keys.partitions[0], kind)
    if kind != "parked":
        await real.call("RENAME", key, f"{key}:away")
    await real.call("SET", key, "a text")
    tickets = await ts.send_many([added("two", "s"), added("two", "t"), added("three", "s")])
    worker = await worker_of(real)

    def written() -> list[str]:
        return [record.message for record in caplog.records if "partition can" in record.message]

    await wait_until(lambda: bool(written()))
    owned = worker._worker._member._leases.owned[0]
    await wait_until(lambda: owned._backoff._failures >= 4)
    assert written() == ["partition cannot be written"]
    assert not [record for record in caplog.records if record.exc_info]
    await real.call("DEL", key)
    if kind != "parked":
        await real.call("RENAME", f"{key}:away", key)
    assert [await told(ticket) for ticket in tickets] == [3, 3, 4]
    assert written() == ["partition cannot be written", "partition can be written again"]
    assert [each async for each in ts.admin.parked.list()] == []


async def test_a_worker_that_waits_for_its_partition_stops_at_once(
    real: EmbeddedDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    ts = await sessions_of(real, ["s"])
    index = real.keys.partitions[0].index
    await real.call("DEL", index)
    await real.call("SET", index, "a text")
    await ts.send(added("two", "s"))
    worker = await worker_of(real)
    owned = worker._worker._member._leases.owned[0]
    await wait_until(lambda: owned._backoff._failures >= 5)
    await worker.stop()
    assert await real.backlog(0) == 1
    await real.call("DEL", index)


async def test_a_session_that_holds_nonsense_is_parked(real: EmbeddedDeployment) -> None:
    """A hash without the fields of a header cannot be read."""
    ts = await sessions_of(real, ["t"])
    await real.call("HSET", real.keys.partitions[0].session("s"), "version", "3")
    tickets = await ts.send_many([CreateSession(CONFIG, "s"), added("two", "t"), added("two", "s")])
    await worker_of(real)
    assert [await told(ticket) for ticket in tickets] == [CommandParked, 3, CommandParked]
    (info,) = [each async for each in ts.admin.parked.list()]
    assert info.error == "The worker failed on it: KeyError"


async def test_missing_permissions_park_no_session(real: EmbeddedDeployment) -> None:
    """A setting is wrong, and no command."""
    await real.call("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-zadd")
    try:
        url = real.settings.redis_url.get_secret_value().replace("redis://", "redis://limited:secret@")
        backend = await RedisBackend.open(real.settings.at(url), "test", throw_away=True)
        real.resources.push_async_callback(backend.aclose)
        state = await taken(backend)
        with pytest.raises(ConfigurationError, match="does not permit"):
            await backend.store.commit(batch_of(state, created("s"), events=()))
        await backend.ownership.release([state])
        limited = EmbeddedDeployment(real.settings.at(url))
        real.resources.push_async_callback(limited.raw.aclose)
        worker = await worker_of(limited)
        await (await client_of(real, worker=False)).send(CreateSession(CONFIG, "s"))
        with pytest.raises(ConfigurationError, match="does not permit"):
            await worker.task
        await limited.resources.aclose()
    finally:
        await real.call("ACL", "DELUSER", "limited")


LACKING = [("-zadd",), ("resetchannels", "&(namespace):workers:changes", "&(namespace):{*}:reply:*")]


@asynccontextmanager
async def limited(real: EmbeddedDeployment, *rules: str) -> AsyncGenerator[EmbeddedDeployment]:
    """The deployment as a user sees it with every permission except those that the rules revoke."""
    rules = tuple(rule.replace("(namespace)", real.settings.namespace) for rule in rules)
    await real.call("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all", *rules)
    url = real.settings.redis_url.get_secret_value().replace("redis://", "redis://limited:secret@")
    deployment = EmbeddedDeployment(real.settings.at(url))
    try:
        yield deployment
    finally:
        await deployment.resources.aclose()
        await deployment.raw.aclose()
        await real.call("ACL", "DELUSER", "limited")


@pytest.mark.parametrize(("rules", "refused"), [(LACKING[0], "ZADD"), (LACKING[1], "the channel .*:events:")])
async def test_a_worker_without_a_permission_is_refused_on_start_up(
    real: EmbeddedDeployment, rules: tuple[str, ...], refused: str
) -> None:
    async with limited(real, *rules) as user:
        with pytest.raises(ConfigurationError, match=f"does not permit this user what a worker does: {refused}"):
            await RedisBackend.open(user.settings, works=True)
        assert await real.names() == [real.keys.layout]
        # A producer needs less.
        await (await RedisBackend.open(user.settings)).aclose()
        await real.call("ACL", "SETUSER", "limited", "allchannels", "+zadd")
        await (await RedisBackend.open(user.settings, works=True)).aclose()
        assert await real.names() == [real.keys.layout]


async def test_a_worker_that_may_not_even_remove_keys_leaves_none(real: EmbeddedDeployment) -> None:
    async with limited(real, "-unlink") as user:
        with pytest.raises(ConfigurationError, match="UNLINK"):
            await RedisBackend.open(user.settings, works=True)
        assert await real.names() == [real.keys.layout]


@pytest.mark.parametrize("rules", LACKING)
async def test_a_partition_continues_after_a_revoked_permission_is_restored(
    real: EmbeddedDeployment, rules: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """A commit refused half-way has left an event; no session is parked for it, and its sequence is free again."""
    keys = real.keys.partitions[0]
    ts = await sessions_of(real, ["before"])
    generation = await real.call("HGET", keys.partition, "generation")
    async with limited(real, *rules) as user:
        worker = await worker_of(user)
        ticket = await ts.send(CreateSession(CONFIG, "s"))
        with pytest.raises(ConfigurationError, match="does not permit"):
            await worker.task
        assert await real.call("XLEN", keys.events) == 3
        assert await real.call("HGET", keys.partition, "sequence") == b"2"
        await real.call("ACL", "SETUSER", "limited", "allchannels", "+zadd")
        await worker_of(user)
        assert (await ticket).version == 1
        tickets = [await ts.send(command) for command in (CreateSession(CONFIG, "t"), added("two", "before"))]
        assert [await told(ticket) for ticket in tickets] == [1, 3]
        assert [each async for each in ts.admin.parked.list()] == []
    events = await real.events(0)
    assert [event.version for event in events if event.session_id == "before"] == [1, 2, 3]
    assert {event.meta.generation for event in events[2:] if event.meta} == {
        (await real.call("HGET", keys.partition, "generation")).decode()
    }
    assert generation != await real.call("HGET", keys.partition, "generation")
    assert not [record for record in caplog.records if record.message == "command parked"]


async def test_events_written_by_other_programs_do_not_stop_a_partition(real: EmbeddedDeployment) -> None:
    """A worker that finds its sequence taken takes its partition again, and with that puts things right."""
    ts = await sessions_of(real, ["s"])
    keys = real.keys.partitions[0]
    worker = await worker_of(real)
    for last in ("9-0", "1700000000000-0"):
        await real.call("XADD", keys.events, last, "event", "a text")
    await real.call("XDEL", keys.events, "1700000000000-0")
    assert await told(await ts.send(added("two", "s"))) == 3
    assert [event.version for event in await real.events(0)] == [1, 2, 3]
    assert [each async for each in ts.admin.parked.list()] == []
    assert not worker.task.done()


@pytest.mark.parametrize("parked_before", [True, False])
async def test_an_unwritable_queue_delays_no_other_session(
    real: EmbeddedDeployment, caplog: pytest.LogCaptureFixture, *, parked_before: bool
) -> None:
    ts = await sessions_of(real, ["s", "t"])
    await worker_of(real)
    keys = real.keys.partitions[0]
    await real.call("DEL", keys.messages("s"))
    await real.call("SET", keys.messages("s"), "a text")
    if parked_before:
        assert await told(await ts.send(added("two", "s"))) is CommandParked
        await real.call("DEL", keys.queue("s"))
    await real.call("SET", keys.queue("s"), "a text", "EX", 60)
    caplog.clear()
    refused = added("three", "s")
    three, other = await ts.send_many([refused, added("two", "t")])
    with pytest.raises(InvalidCommand, match=r"It cannot be parked: .*:parked:.*:s is a string"):
        await three
    assert await told(other) == 3
    assert len([each async for each in ts.admin.parked.list()]) == parked_before
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.message == "command rejected: it cannot be parked"
    first = "" if parked_before else r"The store refused it: WRONGTYPE .*[^.]\. "
    assert re.match(rf"{first}It cannot be parked: ", vars(line)["reason"])
    # A resend gets the same answer, and once the queue is repaired the session's commands wait there again.
    with pytest.raises(InvalidCommand, match="It cannot be parked"):
        await ts.execute(refused, command_id=three.command_id)
    await real.call("DEL", keys.queue("s"))
    assert await told(await ts.send(added("four", "s"))) is CommandParked


async def test_an_unreadable_queue_delays_no_other_session(real: EmbeddedDeployment) -> None:
    ts = await sessions_of(real, ["s", "t"])
    registry, queue = real.keys.partitions[0].parked, real.keys.partitions[0].queue("s")
    await real.call("HSET", registry, "s", encode_parked_session(ParkedSession(1, 10, 0, "a bug")))
    await real.call("SET", queue, "a text", "EX", 60)
    await worker_of(real)
    progress = await ts.execute(RedriveParked(session_id="s"))
    assert (progress.done, progress.left) == (0, 1)
    assert await told(await ts.send(added("two", "t"))) == 3
    await real.call("HDEL", registry, "s")


LAST_ID = "18446744073709551615-18446744073709551615"


@pytest.mark.parametrize("kind", ["malformed", "queue"])
async def test_a_stream_to_which_nothing_can_be_added_leaves_no_half_of_a_batch(
    real: EmbeddedDeployment, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ts = await sessions_of(real, ["s", "t"])
    keys = real.keys.partitions[0]
    stream = {"malformed": keys.malformed, "queue": keys.queue("s")}[kind]
    await real.call("XADD", stream, LAST_ID, "a field", "a text")
    if kind == "queue":
        await real.call("DEL", keys.messages("s"))
        await real.call("SET", keys.messages("s"), "a text", "EX", 60)
    generation, events = await real.call("HGET", keys.partition, "generation"), await real.call("XLEN", keys.events)
    # They are applied in one batch.
    ticket, other = await ts.send_many([added("two", "t"), added("two", "s")])
    if kind == "malformed":
        await real.append(0, {b"id": b"x", b"type": b"nope", b"data": b"{}"})
    worker = await worker_of(real)
    assert await told(ticket) == 3
    if kind == "malformed":
        await wait_until(lambda: "partition cannot be written" in caplog.text)
        assert await told(other) == 3
        assert await real.call("XLEN", keys.events) == events + 2
        await real.call("DEL", stream)
    else:
        with pytest.raises(InvalidCommand, match="It cannot be parked"):
            await other
    assert await real.call("HGET", keys.partition, "generation") == generation
    assert "partition fenced" not in caplog.text
    assert not worker.task.done()


async def test_an_entry_of_any_form_among_the_events_does_not_keep_a_partition_from_being_taken(
    real: EmbeddedDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    ts = await sessions_of(real, ["s"])
    keys = real.keys.partitions[0]
    await real.call("DEL", keys.events)
    for entry_id in ("1-0", "9-0"):
        await real.call("XADD", keys.events, entry_id, *("x" for _ in range(2 * 4001)))
    await worker_of(real)
    assert await told(await ts.send(added("two", "s"))) == 3
    assert [event.version for event in await real.events(0)] == [3]
    assert "partition failed" not in caplog.text
