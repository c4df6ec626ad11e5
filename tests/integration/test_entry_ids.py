"""Ids that a program chose for its stream entries, up to the last one that there can be: none stops a partition."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.integration.hostile import LAST_PART, written
from tests.waiting import wait_until

from turnstream import AddMessage, CommandParked, ConfigurationError, CreateSession, user_message
from turnstream.ports import START

UNREADABLE = {b"id": b"x", b"type": b"nope", b"data": b"{}"}
VALID = written("valid", AddMessage("s", user_message("two")))


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1}


async def write(real: EmbeddedDeployment, entry_id: str, fields: Mapping[bytes, bytes]) -> None:
    words = [word for pair in fields.items() for word in pair]
    await real.call("XADD", real.keys.partitions[0].commands, entry_id, *words)


def the_last_of_a_millisecond() -> str:
    return f"{int(time.time() * 1_000) + 1}-{LAST_PART}"


def beyond_the_year_9999() -> str:
    return "18446744073709551000-0"


@pytest.mark.parametrize("fields", [UNREADABLE, VALID], ids=["unreadable", "valid"])
@pytest.mark.parametrize("chosen", [the_last_of_a_millisecond, beyond_the_year_9999])
async def test_the_partition_goes_on(
    real: EmbeddedDeployment,
    chosen: Callable[[], str],
    fields: Mapping[bytes, bytes],
) -> None:
    await worker_of(real)
    ts = await client_of(real, worker=False)
    await a_session(ts, "one", session_id="s")
    await write(real, chosen(), fields)
    await ts.execute(AddMessage("s", user_message("three")))
    await ts.execute(CreateSession(CONFIG, "t"))
    texts = ["one", "two", "three"] if fields is VALID else ["one", "three"]
    assert texts_of(await ts.sessions.get_messages("s")) == texts
    assert len(await real.malformed(0)) == (fields is UNREADABLE)
    assert await ts.parked.list() == []
    assert await real.backlog(0) == 0


async def test_what_is_parked_beyond_the_year_9999_is_listed(real: EmbeddedDeployment) -> None:
    await worker_of(real)
    ts = await client_of(real, worker=False)
    await write(real, beyond_the_year_9999(), UNREADABLE)
    await real.call("SET", real.keys.partitions[0].messages("s"), "a text", "EX", 60)
    with pytest.raises(CommandParked):
        await a_session(ts, "one", session_id="s")
    (info,) = await ts.parked.list()
    assert (info.session_id, info.since.year) == ("s", 9999)


async def test_behind_the_last_id_nothing_can_be_queued_until_the_stream_is_made_anew(
    real: EmbeddedDeployment,
) -> None:
    worker = await worker_of(real)
    ts = await client_of(real, worker=False)
    await a_session(ts, "one", session_id="s")
    await write(real, f"{LAST_PART}-{LAST_PART}", UNREADABLE)
    await wait_until(lambda: _is_empty(real))
    (malformed,) = [info async for info in ts.malformed.list()]
    keys = real.keys.partitions[0]
    for refused in (ts.send(AddMessage("s", user_message("two"))), ts.malformed.redrive(malformed.id)):
        with pytest.raises(ConfigurationError, match=r"last id .*: when it is empty, delete it, .* cursor .* 0-0"):
            await refused
    # What the error says.
    await real.call("DEL", keys.commands)
    await real.call("HSET", keys.partition, "cursor", START)
    await worker.stop()
    await worker_of(real)
    await ts.execute(AddMessage("s", user_message("two")))
    assert texts_of(await ts.sessions.get_messages("s")) == ["one", "two"]


async def _is_empty(real: EmbeddedDeployment) -> bool:
    return await real.backlog(0) == 0
