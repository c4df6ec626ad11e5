"""Ids that a program chose for its stream entries, up to the last one that there can be: none stops a partition."""

import asyncio
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

from turnstream import AddMessage, CreateSession, UpdateTokenMetrics, user_message
from turnstream.errors import CommandParked, KeyUnusable
from turnstream.worker import worker as worker_module

NEVER = 1_000_000.0

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


def the_last_of_all() -> str:
    return f"{LAST_PART}-{LAST_PART}"


def beyond_the_year_9999() -> str:
    return "18446744073709551000-0"


@pytest.mark.parametrize("fields", [UNREADABLE, VALID], ids=["unreadable", "valid"])
@pytest.mark.parametrize("chosen", [the_last_of_a_millisecond, beyond_the_year_9999])
async def test_the_partition_continues(
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
    assert texts_of(await ts.sessions.messages("s")) == texts
    assert len(await real.malformed(0)) == (fields is UNREADABLE)
    assert [each async for each in ts.admin.parked.list()] == []
    assert await real.backlog(0) == 0


async def test_commands_parked_after_the_year_9999_are_listed(real: EmbeddedDeployment) -> None:
    await worker_of(real)
    ts = await client_of(real, worker=False)
    await write(real, beyond_the_year_9999(), UNREADABLE)
    await real.call("SET", real.keys.partitions[0].messages("s"), "a text", "EX", 60)
    with pytest.raises(CommandParked):
        await a_session(ts, "one", session_id="s")
    (info,) = [each async for each in ts.admin.parked.list()]
    assert (info.session_id, info.since.year) == ("s", 9999)


async def test_after_the_last_id_nothing_can_be_queued_until_a_worker_replaces_the_stream(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "TIDY_EVERY", NEVER)
    worker = await worker_of(real)
    ts = await client_of(real, worker=False)
    await a_session(ts, "one", session_id="s")
    await write(real, f"{LAST_PART}-{LAST_PART}", UNREADABLE)
    await wait_until(lambda: _is_empty(real))
    (malformed,) = [info async for info in ts.admin.malformed.list()]
    for refused in (
        ts.send(AddMessage("s", user_message("two")), timeout=0.1),
        ts.admin.malformed.redrive(malformed.id),
    ):
        with pytest.raises(KeyUnusable, match=r":commands:.* last id .*; a worker replaces it when it is empty"):
            await refused
    monkeypatch.undo()
    sent = asyncio.create_task(ts.execute(AddMessage("s", user_message("two"))))
    await worker.stop()
    await worker_of(real)
    await sent
    assert texts_of(await ts.sessions.messages("s")) == ["one", "two"]


def an_hour_ahead() -> str:
    return f"{int(time.time() * 1_000) + 3_600_000}-1"


AHEAD = [an_hour_ahead, beyond_the_year_9999, the_last_of_all]
WINDOW = 1.0
short_window = pytest.mark.parametrize("overrides", [{"partitions": 1, "deduplication_window": WINDOW}])


async def outcomes(real: EmbeddedDeployment) -> int:
    prefix = real.keys.partitions[0].outcomes_prefix
    return sum([await real.call("HLEN", name) for name in await real.names() if name.startswith(prefix)])


@short_window
@pytest.mark.parametrize("chosen", AHEAD[:2])
async def test_outcomes_expire_although_the_ids_do_not_advance(
    real: EmbeddedDeployment, chosen: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an id that a program has chosen, so when a server's clock was set back."""
    monkeypatch.setattr(worker_module, "TIDY_EVERY", NEVER)
    await worker_of(real)
    ts = await client_of(real, worker=False)
    await a_session(ts, session_id="s")
    await write(real, chosen(), UNREADABLE)
    kept: list[int] = []
    started = time.monotonic()
    while time.monotonic() < started + 6 * WINDOW:
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=1))
        kept.append(await outcomes(real))
    third = len(kept) // 3
    assert max(kept[2 * third :]) < 1.5 * max(kept[: 2 * third])
    assert kept[-1] < 0.75 * len(kept)


@short_window
@pytest.mark.parametrize("chosen", AHEAD)
async def test_an_empty_stream_with_ids_ahead_of_the_clock_is_replaced(
    real: EmbeddedDeployment, chosen: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    keys = real.keys.partitions[0]
    await worker_of(real)
    ts = await client_of(real, worker=False)
    await a_session(ts, "one", session_id="s")
    await write(real, chosen(), UNREADABLE)
    await wait_until(lambda: _was_replaced(real))
    await ts.execute(AddMessage("s", user_message("two")))
    assert (await real.call("HGET", keys.partition, "cursor")).decode() < f"{int(time.time() * 1_000) + 1}-0"
    told = [record for record in caplog.records if "replaced" in record.message]
    assert [vars(record)["partition"] for record in told] == [0]
    assert await real.call("HGET", keys.partition, "streamsReplaced") == b"1"
    assert texts_of(await ts.sessions.messages("s")) == ["one", "two"]


@pytest.mark.parametrize("chosen", AHEAD)
async def test_a_command_is_recognised_after_such_an_id_and_after_the_stream_was_replaced(
    real: EmbeddedDeployment, chosen: Callable[[], str]
) -> None:
    await worker_of(real)
    ts = await client_of(real, worker=False)
    await a_session(ts, session_id="s")
    before, between = (AddMessage("s", user_message(text)) for text in ("before", "between"))
    assert (await (await ts.send(before, command_id="before"))).version == 2
    await write(real, chosen(), UNREADABLE)
    if chosen is not the_last_of_all:
        assert (await (await ts.send(before, command_id="before"))).version == 2
        assert (await (await ts.send(between, command_id="between"))).version == 3
    await wait_until(lambda: _was_replaced(real))
    assert (await (await ts.send(before, command_id="before"))).version == 2
    assert (await (await ts.send(between, command_id="between"))).version == 3
    assert texts_of(await ts.sessions.messages("s")) == ["before", "between"]
    assert (await ts.verify("s")).differences == ()


async def _was_replaced(real: EmbeddedDeployment) -> bool:
    return await real.call("HGET", real.keys.partitions[0].partition, "streamsReplaced") is not None


async def _is_empty(real: EmbeddedDeployment) -> bool:
    return await real.backlog(0) == 0
