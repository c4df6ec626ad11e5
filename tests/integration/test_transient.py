"""The server refuses every write for a while, full or without its replicas: commands wait, in their order."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.contract.chats import a_session, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.waiting import wait_until

from turnstream import AddMessage, user_message
from turnstream.adapters.embedded import start_embedded_server
from turnstream.settings import Settings

TEXTS = [str(number) for number in range(2_100)]
SMALL = 10
"""Commands of a batch: so few that a backlog is not gone before the server refuses."""


@pytest.fixture
async def alone() -> AsyncIterator[EmbeddedDeployment]:
    """A separate server, for its configuration is changed."""
    with start_embedded_server() as server:
        deployment = EmbeddedDeployment(Settings(namespace="ts", partitions=1, batch_commands=SMALL).at(server.url))
        yield deployment
        await deployment.aclose()


@pytest.mark.parametrize(
    ("setting", "refusing", "usual", "stands"),
    [
        ("maxmemory", "1", "0", "partition cannot be written"),
        ("min-replicas-to-write", "1", "0", "partition interrupted"),
    ],
    ids=["OOM", "NOREPLICAS"],
)
async def test_commands_wait_in_their_order_while_writes_are_refused(
    alone: EmbeddedDeployment,
    caplog: pytest.LogCaptureFixture,
    setting: str,
    refusing: str,
    usual: str,
    stands: str,
) -> None:
    worker = await worker_of(alone)
    ts = await client_of(alone, worker=False)
    await a_session(ts, session_id="s")
    commands = [AddMessage("s", user_message(text)) for text in TEXTS]
    queued = await ts.send_many(commands[:2_000])
    await alone.call("CONFIG", "SET", setting, refusing)
    sending = asyncio.create_task(ts.send_many(commands[2_000:]))

    def told() -> set[str]:
        return {record.message for record in caplog.records}

    await wait_until(lambda: {"commands cannot be queued", stands} <= told())
    assert await alone.backlog(0) > 0
    await alone.call("CONFIG", "SET", setting, usual)
    tickets = [*queued, *await sending]
    assert [(await ticket).version for ticket in tickets] == list(range(2, len(TEXTS) + 2))
    assert texts_of(await ts.sessions.messages("s")) == TEXTS
    assert not worker.task.done()
    assert [each async for each in ts.admin.parked.list()] == []
