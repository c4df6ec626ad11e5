"""The users of deploy/users.acl have what their programs need on a cluster and behind Sentinels, too."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from tests.contract.chats import a_session
from tests.contract.deployments import client_of, opened
from tests.contract.hearing import take_one
from tests.contract.workers import worker_of
from tests.integration.groups import on_group
from tests.topologies import PASSWORD, Node, running_cluster, running_sentinels
from tests.waiting import wait_until

from turnstream import AddMessage, user_message
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.domain.position import LogPosition
from turnstream.events import MessageAdded
from turnstream.ports import FailedEvent, Failure

USERS = Path(__file__).parents[2] / "deploy" / "users.acl"
NAMESPACE = "ts"


@contextmanager
def a_cluster() -> Generator[tuple[Sequence[Node], str]]:
    with running_cluster() as cluster:
        yield cluster.nodes, cluster.url.replace("//", "//{}@")


@contextmanager
def sentinels() -> Generator[tuple[Sequence[Node], str]]:
    with running_sentinels() as group:
        yield group.servers, group.url.replace(f":{PASSWORD}@", "{}@")


@pytest.mark.parametrize("group", [a_cluster, sentinels])
async def test_each_role_has_the_permissions_it_needs(
    group: Callable[[], AbstractContextManager[tuple[Sequence[Node], str]]],
) -> None:
    async with AsyncExitStack() as resources:
        nodes, url = resources.enter_context(group())
        for node in nodes:
            give_users(node)
        works, produces, listens, reacts = [
            await resources.enter_async_context(on_group(url.format(f"{user}:change-me-{user}"), NAMESPACE))
            for user in ("worker", "producer", "subscriber", "consumer")
        ]
        await (await RedisBackend.open(works.settings, works=True)).aclose()
        await worker_of(works)
        client = await client_of(produces, worker=False)
        listener = await client_of(listens, worker=False)
        async with listener.subscribe(MessageAdded) as events:
            session = await a_session(client)
            await client.execute(AddMessage(session.id, user_message("one")))
            assert (await take_one(events)).version == 2
        assert len(await listener.sessions.messages(session.id)) == 1
        backend = await opened(listens)
        pages = [await backend.events.read(number, 0, 10, session.id) for number in range(backend.partitions)]
        assert sum(len(page.payloads) for page in pages) == 2
        await client.sessions.count()
        handled: asyncio.Queue[object] = asyncio.Queue()
        member = (await client_of(reacts, worker=False)).consumer("billing", MessageAdded, start="beginning")
        running = asyncio.create_task(member.run(handled.put))
        await handled.get()
        member.stop()
        await running
        # A worker tidies periodically.
        await wait_until(lambda: any("xgroup" in str(node.call("INFO", "commandstats")) for node in nodes))
        assert [entry for node in nodes for entry in refusals(node)] == []


@pytest.mark.parametrize("group", [a_cluster, sentinels])
async def test_consumers_and_operators_have_the_permissions_they_need(
    group: Callable[[], AbstractContextManager[tuple[Sequence[Node], str]]],
) -> None:
    async with AsyncExitStack() as resources:
        nodes, url = resources.enter_context(group())
        for node in nodes:
            give_users(node)
        reacts, operates = [
            await resources.enter_async_context(on_group(url.format(f"{user}:change-me-{user}"), NAMESPACE))
            for user in ("consumer", "worker")
        ]
        await (await RedisBackend.open(operates.settings, works=True)).aclose()
        member, operator = (await opened(reacts)).subscriptions, (await opened(operates)).subscriptions
        membership = member.membership("billing")
        changes = membership.changes()
        await anext(changes)
        for _ in range(2):
            await membership.beat("member-1")
            await membership.watch("member-1")
        states = [await membership.take(number, "member-1") for number in range(reacts.settings.partitions)]
        owned = [state for state in states if state]
        for state in owned:
            await member.checkpoint("billing", state, LogPosition("g", 1))
            await member.park("billing", state, FailedEvent("s", 1, b"{}", "ValueError", 1), Failure(retry_in=60.0))
            assert await member.hasten("billing", state, 1) == 1
            assert list((await member.due("billing", state.partition, 1)).sessions) == ["s"]
            assert await member.postpone("billing", state, "s", Failure("ValueError", 2))
            await member.request("billing", state.partition, "s", "redrive")
            assert await member.requests("billing", state.partition) == {"s": "redrive"}
            assert await member.queue("billing", state.partition, "s", 1) == [(1, b"{}")]
            assert await member.unpark("billing", state, "s", 1) == 0
            await member.withdraw("billing", state.partition, "s")
        assert await membership.renew(owned) == [True] * reacts.settings.partitions
        await membership.release(owned)
        await anext(changes)
        await membership.depart("member-1")
        await member.reset("billing", {0: LogPosition("g", 0)})
        assert (list(await operator.names()), len(await operator.checkpoints("billing"))) == (["billing"], len(owned))
        await operator.forget("billing")
        assert [entry for node in nodes for entry in refusals(node)] == []


def refusals(node: Node) -> list[object]:
    """The users' refused commands, except looks at connections: without that permission a consumer waits for leases."""
    return [entry for entry in node.call("ACL", "LOG") if "client|list" not in str(entry)]


def give_users(node: Node) -> None:
    for line in USERS.read_text().splitlines():
        user, name, *rules = line.split() or ("", "")
        if user and name != "default":
            node.call("ACL", "SETUSER", name, *rules)
