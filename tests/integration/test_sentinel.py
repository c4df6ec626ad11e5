"""Sentinels: a client is led to the current primary."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from tests.contract.chats import a_session, persistently, texts_of
from tests.contract.deployments import client_of, opened
from tests.contract.samples import command
from tests.contract.workers import worker_of
from tests.integration.groups import OnGroup, on_group
from tests.topologies import PASSWORD, SERVICE, RunningSentinels, running_sentinels
from tests.waiting import wait_until

from turnstream import AddMessage, Unavailable, user_message
from turnstream.errors import ConfigurationError


@pytest.fixture
def failing() -> Iterator[RunningSentinels]:
    """A group of the test's own."""
    with running_sentinels() as running:
        yield running


@pytest.fixture
async def group(failing: RunningSentinels) -> AsyncIterator[OnGroup]:
    await failing.agreed()
    async with on_group(failing.url) as deployment:
        yield deployment


def killed(failing: RunningSentinels) -> None:
    failing.servers[0].stop()


def demoted(failing: RunningSentinels) -> None:
    failing.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE)


@pytest.mark.parametrize("lose", [killed, demoted])
async def test_the_primary_is_lost(
    failing: RunningSentinels, group: OnGroup, lose: Callable[[RunningSentinels], None]
) -> None:
    worker = await worker_of(group)
    client = await client_of(group, worker=False)
    session = await a_session(client, "one")
    await wait_until(lambda: _is_copied(failing))
    lose(failing)
    await wait_until(lambda: failing.servers[1].call("ROLE")[0] == "master")
    for text in ("two", "three"):
        await persistently(client, AddMessage(session.id, user_message(text)))
    assert texts_of(await client.sessions.messages(session.id)) == ["one", "two", "three"]
    assert not worker.task.done()


def _is_copied(failing: RunningSentinels) -> bool:
    primary, replica = (server.call("INFO", "replication") for server in failing.servers)
    return bool(replica["slave_repl_offset"] >= primary["master_repl_offset"])


async def test_a_primary_that_was_demoted_in_silence_is_left(failing: RunningSentinels, group: OnGroup) -> None:
    """No connection breaks: the answer `READONLY` leads to a new one, and the Sentinels to the new primary."""
    backend = await opened(group)
    await backend.queue.publish(0, [command("one")])
    first, second = failing.servers
    # The Sentinels' answers are decided here, so that none of them ends the connection.
    for sentinel in failing.sentinels:
        sentinel.call("SENTINEL", "REMOVE", SERVICE)
    second.call("REPLICAOF", "NO", "ONE")
    first.call("REPLICAOF", "127.0.0.1", second.port)
    with pytest.raises(Unavailable, match="read only"):
        await backend.queue.publish(0, [command("lost")])
    for sentinel in failing.sentinels:
        sentinel.call("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", second.port, 2)
        sentinel.call("SENTINEL", "SET", SERVICE, "auth-pass", PASSWORD)
    await backend.queue.publish(0, [command("two")])
    assert second.call("XLEN", group.keys.partitions[0].commands) == 2


async def test_a_replica_that_is_named_is_not_used(failing: RunningSentinels, group: OnGroup) -> None:
    for sentinel in failing.sentinels:
        sentinel.call("SENTINEL", "REMOVE", SERVICE)
        sentinel.call("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", failing.servers[1].port, 2)
    with pytest.raises(Unavailable, match="not primary any more"):
        await group.open()


async def test_a_sentinel_may_be_down(sentinels: RunningSentinels) -> None:
    async with on_group(sentinels.url.replace("@", "@127.0.0.1:1,")) as deployment:
        await (await opened(deployment)).queue.publish(0, [command("c")])


async def test_no_sentinel_answers() -> None:
    with pytest.raises(Unavailable) as unavailable:
        async with on_group(f"redis+sentinel://me:{PASSWORD}@127.0.0.1:1,127.0.0.1:2/{SERVICE}") as deployment:
            await deployment.open()
    assert "redis+sentinel://me:***@127.0.0.1:1,127.0.0.1:2/sessions" in str(unavailable.value)
    assert PASSWORD not in str(unavailable.value)


async def test_a_service_that_no_sentinel_watches(sentinels: RunningSentinels) -> None:
    with pytest.raises(ConfigurationError, match="do not watch a service 'another'"):
        async with on_group(sentinels.url.replace(SERVICE, "another")) as deployment:
            await deployment.open()


async def test_a_wrong_password(sentinels: RunningSentinels) -> None:
    with pytest.raises(ConfigurationError, match="refuses the user or the password"):
        async with on_group(sentinels.url.replace(PASSWORD, "wrong")) as deployment:
            await deployment.open()


async def test_sentinels_with_a_password(failing: RunningSentinels) -> None:
    for sentinel in failing.sentinels:
        sentinel.call("ACL", "SETUSER", "default", ">their own")
    async with on_group(f"{failing.url}?sentinel_password=their%20own") as deployment:
        await (await opened(deployment)).queue.publish(0, [command("c")])
    with pytest.raises(ConfigurationError, match=r"Sentinel 127\.0\.0\.1:.* refuses the user or the password"):
        async with on_group(failing.url) as deployment:
            await deployment.open()
