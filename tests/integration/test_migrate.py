"""`turnstream migrate`: a deployment of layout 1 gets the keys of layout 2, and nothing of it is lost."""

import re
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import pytest
from tests.contract.chats import a_session, id_in, texts_of
from tests.contract.deployments import client_of, opened
from tests.contract.redis_deployments import RedisDeployment
from tests.contract.workers import worker_of

from turnstream import AddMessage, NotHandled, ResyncRequired, Turnstream, user_message
from turnstream.adapters.redis.connection.pipelined import PipelinedConnection, Word
from turnstream.adapters.redis.deployment import migration
from turnstream.adapters.redis.deployment.migration import Migration, migrate
from turnstream.errors import CommandParked, ConfigurationError, Unavailable
from turnstream.events import MessageAdded

PARTITIONS = 4
ODD_IDS = ["a:b", "}:commands", "{x}", "ü\n", "{1.4.0.1}:session:x", ":", "*?[a]"]
STREAMS = ("commands", "malformed", "parked")

on_servers = pytest.mark.parametrize("deployment", ["embedded", "cluster"], indirect=True)


@pytest.fixture
def overrides() -> dict[str, Any]:
    # Nothing is applied while the layouts are compared, so an outcome must not leave its window.
    return {"partitions": PARTITIONS, "lease": 1.0, "response_timeout": 5.0}


class Life:
    """The contents of a deployment before it was converted back to layout 1."""

    def __init__(self, texts: Mapping[str, list[str]], parked: str, stored: Mapping[str, object]) -> None:
        self.texts = texts
        self.parked = parked
        self.stored = stored


@pytest.fixture
async def life(deployment: RedisDeployment) -> Life:
    """Everything that a deployment can hold, under the keys of layout 1, without running processes."""
    worker = await worker_of(deployment)
    ts = await client_of(deployment, worker=False)
    for session_id in ODD_IDS:
        await a_session(ts, "one", session_id=session_id)
    parked = id_in(0, PARTITIONS)
    await a_session(ts, "one", session_id=parked)
    await park_events(ts, ODD_IDS[0])
    keys = deployment.keys.partitions[0]
    await deployment.call("RENAME", keys.messages(parked), f"{keys.absent}:kept")
    await deployment.call("SET", keys.messages(parked), "a text")
    with pytest.raises(CommandParked):
        await ts.execute(AddMessage(parked, user_message("two")))
    await deployment.call("RENAME", f"{keys.absent}:kept", keys.messages(parked))
    await worker.stop()
    for session_id in ODD_IDS:
        for text in ("two", "three"):
            await ts.send(AddMessage(session_id, user_message(text)))
    reply_to = keys.reply_channel("client")
    await deployment.call(
        "XADD", keys.malformed, "*", "entryId", "1-0", "error", "Expected", *fields_of_a_create("late", reply_to)
    )
    await ts.aclose()
    stored = await without_replies(deployment)
    await to_layout_1(deployment)
    return Life({session_id: ["one", "two", "three"] for session_id in ODD_IDS}, parked, stored)


def fields_of_a_create(session_id: str, reply_to: str) -> list[str]:
    data = f'{{"sessionId":"{session_id}","config":{{"provider":"openai","model":"gpt-4"}}}}'
    return ["id", f"create {session_id}", "type", "create-session", "data", data, "replyTo", reply_to]


async def park_events(ts: Turnstream, session_id: str) -> None:
    """Have a durable subscription park a session."""
    member = ts.consumer("billing", MessageAdded, start="beginning", attempts=1)

    async def refuse(event: MessageAdded | ResyncRequired) -> None:
        if isinstance(event, MessageAdded) and event.session_id == session_id:
            member.stop()
            raise NotHandled("no")

    await member.run(refuse)


async def to_layout_1(deployment: RedisDeployment) -> None:
    """Do the inverse of a migration."""
    namespace = deployment.settings.namespace
    for name in await deployment.names():
        if found := re.fullmatch(rf"{namespace}:([a-z]+):(\{{[^}}]+\}})(.*)", name, re.DOTALL):
            kind, tag, rest = found.groups()
            former = f"{namespace}:{tag}:{kind}{rest}"
            if kind == "names":
                former = f"{namespace}:{tag}"
            elif kind == "members":
                former = f"{namespace}:{tag}{rest}:members"
            await deployment.call("RENAME", name, former)
            if kind == "partition":
                await deployment.call("HSET", former, "layout", "1")
            if kind in STREAMS and await deployment.call("TYPE", former) == b"stream":
                await with_former_replies(deployment, former, tag)
    await deployment.call("SET", deployment.keys.layout, f"{PARTITIONS} 1")


async def with_former_replies(deployment: RedisDeployment, key: str, tag: str) -> None:
    namespace = deployment.settings.namespace
    rows: Any = await deployment.call("XRANGE", key, "-", "+")
    about: Any = await deployment.call("XINFO STREAM", key)
    await deployment.call("XTRIM", key, "MAXLEN", 0)
    await deployment.call("RENAME", key, f"{key}:before")
    for entry_id, fields in rows:
        former = {
            n: v.replace(f"{namespace}:reply:{tag}:".encode(), f"{namespace}:{tag}:reply:".encode())
            for n, v in dict(fields).items()
        }
        await deployment.call("XADD", key, entry_id, *(word for pair in former.items() for word in pair))
    if rows:
        words = ("ENTRIESADDED", about["entries-added"], "MAXDELETEDID", about["max-deleted-entry-id"])
        await deployment.call("XSETID", key, about["last-generated-id"], *words)
        await deployment.call("DEL", f"{key}:before")
    else:
        await deployment.call("RENAME", f"{key}:before", key)


async def without_replies(deployment: RedisDeployment) -> dict[str, object]:
    """Return what is stored, but for reply channels, members and leases, with the numbers of the streams."""
    stored: dict[str, object] = {}
    for name, content in (await deployment.dump()).items():
        if await deployment.call("TYPE", name) == b"stream":
            stored[name] = await stream_without_replies(deployment, name)
        elif name != deployment.keys.workers and not name.endswith(":lease"):
            stored[name] = content
    return stored


async def stream_without_replies(deployment: RedisDeployment, name: str) -> tuple[object, ...]:
    entries: Any = await deployment.call("XRANGE", name, "-", "+")
    about: Any = await deployment.call("XINFO STREAM", name)
    rows = [(i, {n: v for n, v in dict(fields).items() if n != b"replyTo"}) for i, fields in entries]
    numbers = ("length", "last-generated-id", "entries-added", "max-deleted-entry-id")
    return rows, *(about[number] for number in numbers)


async def migrated(deployment: RedisDeployment, *, dry_run: bool = False) -> Migration:
    async with aclosing(migrate(deployment.settings, dry_run=dry_run)) as states:
        return [state async for state in states][-1]


async def check(deployment: RedisDeployment, life: Life) -> None:
    """All reads as before, and waiting commands are applied, answered and redriven."""
    assert await without_replies(deployment) == life.stored
    ts = await client_of(deployment)
    # It is applied after all waiting commands.
    for session_id, texts in life.texts.items():
        await ts.execute(AddMessage(session_id, user_message("four")))
        assert texts_of(await ts.sessions.messages(session_id)) == [*texts, "four"]
        assert (await ts.verify(session_id)).equal
    assert (await ts.admin.parked.redrive(life.parked)).done == 1
    assert texts_of(await ts.sessions.messages(life.parked)) == ["one", "two"]
    [malformed] = [info async for info in ts.admin.malformed.list()]
    assert await ts.admin.malformed.redrive(malformed.id)
    await ts.execute(AddMessage(life.parked, user_message("three")))
    assert [info async for info in ts.admin.malformed.list()] == []
    assert await ts.sessions.exists("late")
    assert [info.name async for info in ts.admin.consumers.list()] == ["billing"]
    assert [session.session_id async for session in ts.admin.consumers.parked("billing")] == [ODD_IDS[0]]


@on_servers
async def test_all_that_a_deployment_holds_comes_over(deployment: RedisDeployment, life: Life) -> None:
    state = await migrated(deployment)
    assert state.status == "done"
    assert state.keys["session"] == len(ODD_IDS) + 1
    assert state.entries == len(ODD_IDS) * 2 + 2
    await check(deployment, life)
    assert (await migrated(deployment)).status == "nothing to do"


@on_servers
async def test_it_resumes_wherever_it_was_interrupted(
    deployment: RedisDeployment, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run ends after so many calls, the next one after one more."""
    monkeypatch.setattr(migration, "PAGE", 3)
    monkeypatch.setattr(migration, "ENTRIES", 1)
    call, left = PipelinedConnection.call, 0

    async def broken_off(connection: PipelinedConnection, *words: Word) -> Any:  # noqa: ANN401 - as the call itself
        nonlocal left
        left -= 1
        if left < 0:
            raise Unavailable("broken off")
        return await call(connection, *words)

    runs = 0
    while True:
        runs, left = runs + 1, runs * 2
        monkeypatch.setattr(PipelinedConnection, "call", broken_off)
        try:
            await migrated(deployment)
        except Unavailable:
            monkeypatch.setattr(PipelinedConnection, "call", call)
            with pytest.raises(ConfigurationError, match="run `turnstream migrate`"):
                await deployment.open()
        else:
            break
    monkeypatch.setattr(PipelinedConnection, "call", call)
    assert runs > 5
    await check(deployment, life)


@on_servers
async def test_a_dry_run_counts_and_writes_nothing(deployment: RedisDeployment, life: Life) -> None:
    before = await deployment.dump()
    counted = await migrated(deployment, dry_run=True)
    assert await deployment.dump() == before
    done = await migrated(deployment)
    assert (counted.keys, counted.entries) == (done.keys, done.entries)


@on_servers
async def test_programs_refuse_the_former_layout_with_a_remedy(deployment: RedisDeployment, life: Life) -> None:
    with pytest.raises(ConfigurationError, match=r"layout 1.*`turnstream migrate`"):
        await worker_of(deployment)
    with pytest.raises(ConfigurationError, match=r"layout 1.*`turnstream migrate`"):
        await client_of(deployment, worker=False)
    await migrated(deployment)
    await check(deployment, life)


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
async def test_a_take_refuses_a_partition_of_the_former_layout(deployment: RedisDeployment) -> None:
    backend = await opened(deployment)
    state = await backend.ownership.take(0, "worker-1")
    assert state
    await backend.ownership.release([state])
    await deployment.call("HSET", deployment.keys.partitions[0].partition, "layout", "1")
    with pytest.raises(ConfigurationError, match=r"Partition 0.*layout 1.*`turnstream migrate`"):
        await backend.ownership.take(0, "worker-1")


@on_servers
async def test_it_refuses_while_a_worker_lives(deployment: RedisDeployment) -> None:
    worker = await worker_of(deployment)
    await deployment.call("SET", deployment.keys.layout, f"{PARTITIONS} 1")
    before = set(await deployment.names())
    with pytest.raises(ConfigurationError, match="workers live"):
        await migrated(deployment)
    assert await deployment.call("GET", deployment.keys.layout) == f"{PARTITIONS} 1".encode()
    await worker.stop()
    assert set(await deployment.names()) <= before


@on_servers
@pytest.mark.parametrize("key", ["ts:{tag}:lease", "ts:{tag}:subscription:billing:lease"])
async def test_it_refuses_while_a_lease_of_the_former_layout_runs(deployment: RedisDeployment, key: str) -> None:
    await to_layout_1(deployment)
    namespace = deployment.settings.namespace
    name = key.replace("ts:", f"{namespace}:").replace("{tag}", deployment.keys.partitions[1].tag)
    await deployment.call("SADD", f"{namespace}:{{subscriptions}}", "billing")
    await deployment.call("SET", name, "token", "PX", 60_000)
    with pytest.raises(ConfigurationError, match="Partition 1 has an owner"):
        await migrated(deployment)
    await deployment.call("DEL", name)
    assert (await migrated(deployment)).keys == {"names": 1}


@on_servers
async def test_it_refuses_while_a_consumer_of_the_former_layout_lives(deployment: RedisDeployment) -> None:
    await to_layout_1(deployment)
    namespace = deployment.settings.namespace
    seconds, _ = await deployment.raw.time()
    await deployment.call("SADD", f"{namespace}:{{subscriptions}}", "billing")
    await deployment.call("HSET", f"{namespace}:{{subscriptions}}:billing:members", "m", f"{seconds + 60}000 c")
    with pytest.raises(ConfigurationError, match="members of the subscription billing live"):
        await migrated(deployment)
    await deployment.call("HSET", f"{namespace}:{{subscriptions}}:billing:members", "m", f"{seconds - 60}000 c")
    assert (await migrated(deployment)).keys == {"names": 1, "members": 1}


@on_servers
@pytest.mark.parametrize("kind", ["session", "commands"])
async def test_nothing_is_written_over(deployment: RedisDeployment, life: Life, kind: str) -> None:
    keys = deployment.keys.partitions[0]
    taken = keys.session(life.parked) if kind == "session" else keys.commands
    await deployment.call("SET", taken, "something else")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=rf"1 keys cannot get their new name.*{kind}"):
            await migrated(deployment)
        assert await deployment.call("GET", taken) == b"something else"
    await deployment.call("DEL", taken)
    assert (await migrated(deployment)).status == "done"
    await check(deployment, life)


@on_servers
async def test_strangers_stay_where_they_are(deployment: RedisDeployment) -> None:
    namespace, tag = deployment.settings.namespace, deployment.keys.partitions[0].tag
    await to_layout_1(deployment)
    strangers = [f"{namespace}:{tag}:another", f"{namespace}:{{another}}:commands", f"{namespace}:{tag}"]
    for key in strangers:
        await deployment.call("SET", key, "x")
    state = await migrated(deployment)
    assert (state.status, state.keys, state.others) == ("done", {}, len(strangers))
    for key in strangers:
        assert await deployment.call("GET", key) == b"x"
        await deployment.call("DEL", key)


@on_servers
async def test_commands_that_came_to_a_former_key_since_are_applied_last(
    deployment: RedisDeployment, life: Life
) -> None:
    """A producer of the former layout was not stopped."""
    await migrated(deployment)
    keys, namespace = deployment.keys.partitions[0], deployment.settings.namespace
    former = f"{namespace}:{keys.tag}:commands"
    late = id_in(0, PARTITIONS)
    words = fields_of_a_create(late, f"{namespace}:{keys.tag}:reply:client")
    await deployment.call("XADD", former, "1-1", *words)
    assert (await migrated(deployment)).entries == 1
    client = await client_of(deployment)
    await client.execute(AddMessage(late, user_message("one")))
    assert texts_of(await client.sessions.messages(late)) == ["one"]


@on_servers
async def test_an_entry_of_thousands_of_fields_comes_over(deployment: RedisDeployment) -> None:
    await to_layout_1(deployment)
    keys, namespace = deployment.keys.partitions[0], deployment.settings.namespace
    session_id = id_in(0, PARTITIONS)
    words = fields_of_a_create(session_id, f"{namespace}:{keys.tag}:reply:client")
    others = [word for number in range(10_000) for word in (f"x{number}", "y")]
    await deployment.call("XADD", f"{namespace}:{keys.tag}:commands", "*", *words, *others)
    assert (await migrated(deployment)).entries == 1
    client = await client_of(deployment)
    await client.execute(AddMessage(session_id, user_message("one")))


async def test_an_empty_server_needs_no_migration(real: RedisDeployment) -> None:
    with pytest.raises(ConfigurationError, match="no deployment"):
        await migrated(real)
    await client_of(real)
    assert (await migrated(real)).status == "nothing to do"
    await real.call("SET", real.keys.layout, f"{PARTITIONS} 3")
    with pytest.raises(ConfigurationError, match="upgrade it"):
        await migrated(real)
