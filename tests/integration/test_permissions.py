"""The users of deploy/users.acl have what workers and producers need on a cluster and behind Sentinels, too."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from tests.contract.chats import a_session
from tests.contract.deployments import client_of
from tests.contract.hearing import take_one
from tests.contract.workers import worker_of
from tests.integration.groups import on_group
from tests.topologies import PASSWORD, Node, running_cluster, running_sentinels
from tests.waiting import wait_until

from turnstream import AddMessage, MessageAdded, user_message

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
async def test_workers_and_producers_may_do_what_they_do(
    group: Callable[[], AbstractContextManager[tuple[Sequence[Node], str]]],
) -> None:
    async with AsyncExitStack() as resources:
        nodes, url = resources.enter_context(group())
        for node in nodes:
            give_users(node)
        works, produces = [
            await resources.enter_async_context(on_group(url.format(f"{user}:change-me-{user}"), NAMESPACE))
            for user in ("worker", "producer")
        ]
        await worker_of(works)
        client = await client_of(produces, worker=False)
        async with client.subscribe(MessageAdded) as events:
            session = await a_session(client)
            await client.execute(AddMessage(session.id, user_message("one")))
            assert (await take_one(events)).version == 2
        await client.sessions.count()
        # Now and then a worker tidies.
        await wait_until(lambda: any("xgroup" in str(node.call("INFO", "commandstats")) for node in nodes))
        assert [node.call("ACL", "LOG") for node in nodes] == [[] for _ in nodes]


def give_users(node: Node) -> None:
    for line in USERS.read_text().splitlines():
        user, name, *rules = line.split() or ("", "")
        if user and name != "default":
            node.call("ACL", "SETUSER", name, *rules)
