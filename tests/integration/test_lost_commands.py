"""Commands that another program removed from a stream: living clients send them again, and the loss is counted."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.contract.chats import CONFIG, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import RedisDeployment
from tests.contract.workers import worker_of
from tests.integration.hostile import written
from tests.integration.test_foreign_partitions import applied_once, sending, sessions
from tests.waiting import wait_until

from turnstream import AddMessage, CreateSession, user_message

PARTITIONS = 2


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": PARTITIONS}


async def trim(site: RedisDeployment, key: str) -> None:
    """As any producer may: it adds an entry that cannot be read."""
    await site.call("XADD", key, "MAXLEN", 0, "*", "a field", "a text")
    await site.call("XTRIM", key, "MAXLEN", 0)


async def delete_some(site: RedisDeployment, key: str) -> None:
    entries = await site.call("XRANGE", key, "-", "+")
    for entry_id, _ in entries[1::2]:
        await site.call("XDEL", key, entry_id)


async def delete(site: RedisDeployment, key: str) -> None:
    await site.call("DEL", key)


async def overwrite(site: RedisDeployment, key: str) -> None:
    await site.call("SET", key, "a text")
    await site.call("DEL", key)


async def replace(site: RedisDeployment, key: str) -> None:
    """Another stream replaces it, and its entry has the id of the former cursor."""
    words = [word for pair in written("old", AddMessage("nobody", user_message("x"))).items() for word in pair]
    await site.call("XADD", f"{key}:another", "5-5", *words)
    await site.call("RENAME", f"{key}:another", key)


Way = Callable[[RedisDeployment, str], Awaitable[None]]
WAYS: list[Way] = [trim, delete_some, delete, overwrite, replace]
COUNTED: dict[Way, int] = {trim: 11, delete_some: 5}
on_both = pytest.mark.parametrize("deployment", ["embedded", "cluster"], indirect=True)


async def field(site: RedisDeployment, partition: int, name: str) -> int:
    return int(await site.call("HGET", site.keys.partitions[partition].partition, name) or -1)


@on_both
@pytest.mark.parametrize("way", WAYS)
async def test_waiting_commands_are_resent_by_living_clients_and_counted(
    deployment: RedisDeployment, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    first = await worker_of(deployment)
    ts = await client_of(deployment, worker=False)
    names = sessions(PARTITIONS)
    for name in names:
        await ts.execute(CreateSession(CONFIG, name))
    await wait_until(lambda: _is_tidied(deployment))
    await first.stop()
    tickets = [await ts.send(AddMessage(name, user_message(f"{n}"))) for n in range(5) for name in names]
    for number in range(5):
        # The client that sent these is gone.
        await deployment.append(0, written(f"gone-{number}", AddMessage(names[0], user_message("gone"))))
    await way(deployment, deployment.keys.partitions[0].commands)
    await worker_of(deployment)
    for ticket in tickets:
        await ticket
    await wait_until(lambda: any("commands lost" in record.message for record in caplog.records))
    texts = [texts_of(await ts.sessions.messages(name)) for name in names]
    assert sorted(text for text in texts[0] if text != "gone") == texts[1] == [str(n) for n in range(5)]
    (told,) = [vars(record) for record in caplog.records if "commands lost" in record.message]
    assert (told["partition"], told["stream"]) == (0, deployment.keys.partitions[0].commands)
    assert told["count"] == COUNTED.get(way, 0) == await field(deployment, 0, "lost")
    assert told["at_least"] == (way not in COUNTED)
    assert await field(deployment, 1, "lost") == -1
    assert any(record.message == "commands may be lost, they are sent again" for record in caplog.records)


@on_both
async def test_every_command_of_a_living_client_has_its_effect_once(deployment: RedisDeployment) -> None:
    """Whatever is taken from the stream while commands flow."""
    await worker_of(deployment)
    ts = await client_of(deployment, worker=False)
    names = sessions(PARTITIONS)
    for name in names:
        await ts.execute(CreateSession(CONFIG, name))
    draws = random.Random(20261130)
    async with sending(ts, names) as senders:
        for _ in range(60):
            way = draws.choice(WAYS)
            await way(deployment, deployment.keys.partitions[0].commands)
            await asyncio.sleep(draws.random() / 10)
    for sender in senders:
        assert len(sender.accepted) > 10
        await applied_once(ts, sender)
        assert (await ts.verify(sender.session_id)).differences == ()


@on_both
async def test_nothing_is_counted_without_a_consumer(
    deployment: RedisDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    """Not while commands flow, and not with another owner."""
    first = await worker_of(deployment)
    ts = await client_of(deployment, worker=False)
    names = sessions(PARTITIONS)
    for name in names:
        await ts.execute(CreateSession(CONFIG, name))
    async with sending(ts, names) as senders:
        await wait_until(lambda: _is_tidied(deployment))
        second = await worker_of(deployment)
        await first.crash()
        await wait_until(lambda: second.owned == set(range(PARTITIONS)))
        known = [await field(deployment, partition, "added") for partition in range(PARTITIONS)]
        for partition, added in enumerate(known):
            await wait_until(lambda p=partition, a=added: _grew(deployment, p, a))  # type: ignore[misc]
    for sender in senders:
        await applied_once(ts, sender)
    assert [await field(deployment, partition, "lost") for partition in range(PARTITIONS)] == [-1] * PARTITIONS
    assert not [record for record in caplog.records if "lost: somebody" in record.message]


async def _is_tidied(site: RedisDeployment) -> bool:
    return all([await field(site, partition, "added") > 0 for partition in range(PARTITIONS)])


async def _grew(site: RedisDeployment, partition: int, added: int) -> bool:
    return await field(site, partition, "added") > added
