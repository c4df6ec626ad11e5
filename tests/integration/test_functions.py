"""The function library: its loading, its permissions, and the behaviour without it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from tests.contract.chats import CONFIG, a_session, texts_of
from tests.contract.deployments import client_of, opened
from tests.contract.hearing import take_one
from tests.contract.redis_deployments import ClusterDeployment, EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.topologies import PRIMARIES, RunningCluster
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, CreateSession, Turnstream, user_message
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.function_library import FUNCTIONS, Library
from turnstream.adapters.redis.server import Function, Scripts
from turnstream.errors import Unavailable
from turnstream.events import MessageAdded
from turnstream.settings import Settings

PASSWORD = "secret"

READER = "%R~{ns}:* &{ns}:* -@all +@read +@connection +fcall_ro +info +subscribe +unsubscribe +set ~{ns}:layout"
PRODUCER = f"{READER} ~{{ns}}:commands:* +fcall +xadd +xlen"
CONSUMER = (
    f"{READER} ~{{ns}}:subscription:* ~{{ns}}:names:* ~{{ns}}:members:* +fcall +time +client|list +publish "
    "+hset +hdel +hincrby +pexpire +unlink +xadd +xdel +sadd"
)


@pytest.fixture
async def bare(real: EmbeddedDeployment) -> AsyncIterator[EmbeddedDeployment]:
    """A server without functions, and afterwards without the users that a test has made."""
    await real.call("FUNCTION", "FLUSH")
    yield real
    for user in await real.call("ACL", "USERS"):
        if user != b"default":
            await real.call("ACL", "DELUSER", user)


async def settings_of(real: EmbeddedDeployment, user: str, rules: str) -> Settings:
    words = rules.format(ns=real.settings.namespace).split()
    await real.call("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", *words)
    url = real.settings.redis_url.get_secret_value().replace("//", f"//{user}:{PASSWORD}@")
    return real.settings.at(url)


async def libraries(real: EmbeddedDeployment) -> set[str]:
    return {entry[1].decode() for entry in await real.call("FUNCTION", "LIST")}


def test_every_function_is_called_as_one() -> None:
    scripts = vars(Scripts(library=Library()))
    assert {name for name, script in scripts.items() if isinstance(script, Function)} == set(FUNCTIONS)


async def test_a_user_without_scripting_produces_reads_and_subscribes(bare: EmbeddedDeployment) -> None:
    await worker_of(bare)
    produces = await settings_of(bare, "produces", PRODUCER)
    reads = await settings_of(bare, "reads", READER)
    reacts = await settings_of(bare, "reacts", CONSUMER)
    await bare.call("ACL", "LOG", "RESET")
    async with (
        Turnstream.connect(settings=produces) as producer,
        Turnstream.connect(settings=reads) as reader,
        Turnstream.connect(settings=reacts) as consumer,
    ):
        async with reader.subscribe(MessageAdded) as events, producer.subscribe(MessageAdded) as own:
            session = await a_session(producer)
            await producer.execute(AddMessage(session.id, user_message("one")))
            assert (await take_one(events)).session_id == (await take_one(own)).session_id == session.id
        for client in (producer, reader):
            assert texts_of(await client.sessions.messages(session.id)) == ["one"]
            assert [info.id for info in (await client.sessions.page()).sessions] == [session.id]
        handled: asyncio.Queue[object] = asyncio.Queue()
        member = consumer.consumer("billing", MessageAdded, start="beginning")
        running = asyncio.create_task(member.run(handled.put))
        await handled.get()
        member.stop()
        await running
    assert await bare.call("ACL", "LOG") == []


@pytest.mark.parametrize("rules", [READER, PRODUCER, CONSUMER])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
async def test_a_function_writes_no_session_for_a_user_without_permission(
    bare: EmbeddedDeployment, rules: str, name: str
) -> None:
    """Whatever keys and arguments it is called with."""
    keys = bare.keys.partitions[0]
    await (await bare.open()).aclose()
    await bare.call("HSET", keys.session("s"), "token", "t")
    before = await bare.dump()
    settings = await settings_of(bare, "user", rules)
    async with Redis.from_url(settings.redis_url.get_secret_value(), protocol=2) as user:
        for key in (keys.session("s"), keys.lease, keys.partition):
            for call in ("FCALL", "FCALL_RO"):
                words = [4, "HSET", key, "version", "9"] if name == "read" else ["t", "a", "1", "1", "", "", "9", "9"]
                with suppress(ResponseError):
                    await user.execute_command(call, Library().function(name), 3, key, key, key, *words)
    assert await bare.dump() == before


async def test_functions_come_back_after_a_flush_while_commands_flow(bare: EmbeddedDeployment) -> None:
    await worker_of(bare)
    settings = await settings_of(bare, "produces", PRODUCER)
    async with Turnstream.connect(settings=settings) as producer:
        session = await a_session(producer)
        await bare.call("FUNCTION", "FLUSH")
        await producer.execute(AddMessage(session.id, user_message("one")))
        assert texts_of(await producer.sessions.messages(session.id)) == ["one"]
    assert await libraries(bare) == {Library().name}


@pytest.mark.parametrize("overrides", [{"response_timeout": 1.0}])
async def test_without_loaded_functions_the_error_gives_a_remedy(bare: EmbeddedDeployment) -> None:
    settings = await settings_of(bare, "produces", PRODUCER)
    async with Turnstream.connect(settings=settings) as producer:
        with pytest.raises(Unavailable, match=r"start a worker.* `turnstream setup`"):
            await producer.execute(CreateSession(CONFIG, "a"), timeout=1.0)
        with pytest.raises(Unavailable, match=r"start a worker.* `turnstream setup`"):
            await producer.sessions.messages("a")


async def test_a_user_without_scripting_waits_for_a_worker_that_loads_the_functions(bare: EmbeddedDeployment) -> None:
    settings = await settings_of(bare, "produces", PRODUCER)

    async def denied(called: str) -> bool:
        return any(called in str(entry) for entry in await bare.call("ACL", "LOG"))

    await bare.call("ACL", "LOG", "RESET")
    async with Turnstream.connect(settings=settings) as producer:
        adding = asyncio.create_task(producer.execute(CreateSession(CONFIG, "a"), timeout=SOON))
        reads = [producer.sessions.exists(f"s{number}") for number in range(8)]
        reading = asyncio.gather(*reads)
        await wait_until(lambda: denied("evalsha'"))
        await wait_until(lambda: denied("evalsha_ro"))
        await worker_of(bare)
        assert (await adding).id == "a"
        # That is found out once for reading and once for writing, however much is asked.
        assert sum(int(entry[1]) for entry in await bare.call("ACL", "LOG")) == 2
        assert await reading == [False] * len(reads)


async def test_a_user_with_scripting_queues_before_the_first_worker_starts(bare: EmbeddedDeployment) -> None:
    async with Turnstream.connect(settings=bare.settings) as producer:
        ticket = await producer.send(CreateSession(CONFIG, "a"))
        for text in ("one", "two"):
            await producer.send(AddMessage("a", user_message(text)))
        assert await libraries(bare) == set()
        await worker_of(bare)
        await ticket
        await producer.execute(AddMessage("a", user_message("three")))
        assert texts_of(await producer.sessions.messages("a")) == ["one", "two", "three"]


@pytest.mark.parametrize("overrides", [{"scripts": "evalsha"}])
async def test_a_host_without_functions_gets_scripts(bare: EmbeddedDeployment) -> None:
    await bare.call("CONFIG", "RESETSTAT")
    client = await client_of(bare)
    session = await a_session(client)
    await client.execute(AddMessage(session.id, user_message("one")))
    assert texts_of(await client.sessions.messages(session.id)) == ["one"]
    assert await libraries(bare) == set()
    assert "fcall" not in str(await bare.call("INFO", "commandstats"))


async def test_a_worker_that_may_not_load_them_works_and_says_so_once(
    bare: EmbeddedDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    rules = "~{ns}:* &{ns}:* +@all -function"
    works = await settings_of(bare, "works", rules)
    backend = await RedisBackend.open(works, throw_away=True, works=True)
    async with aclosing(backend):
        for _ in range(3):
            await backend.ownership.tidy([])
        assert list(await backend.ownership.beat("worker-1")) == ["worker-1"]
    warned = [record for record in caplog.records if "functions cannot be loaded" in str(record.msg)]
    assert len(warned) == 1


async def test_versions_live_side_by_side(bare: EmbeddedDeployment) -> None:
    await bare.call("FUNCTION", "LOAD", Library().text.replace(Library().version, "01234567"))
    assert (await bare.call("FCALL", "turnstream_enqueue_01234567", 1, bare.keys.partitions[0].commands, 1)) == -1
    client = await client_of(bare)
    await a_session(client)
    assert await libraries(bare) == {"turnstream_01234567", Library().name}


async def test_every_primary_of_a_cluster_has_them(cluster: RunningCluster, settings: Settings) -> None:
    deployment = ClusterDeployment(settings, cluster)
    for node in cluster.nodes[:PRIMARIES]:
        node.call("FUNCTION", "FLUSH")
    try:
        backend = await opened(deployment)
        names = [node.call("FUNCTION", "LIST")[0][1] for node in cluster.nodes[:PRIMARIES]]
        assert names == [Library().name] * PRIMARIES
        for node in cluster.nodes[:PRIMARIES]:
            node.call("FUNCTION", "FLUSH")
        await backend.ownership.tidy([])
        assert [len(node.call("FUNCTION", "LIST")) for node in cluster.nodes[:PRIMARIES]] == [1] * PRIMARIES
    finally:
        await deployment.aclose()
