"""A key of another type among a partition's concerns that partition only, and only until the key is removed."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.contract.chats import CONFIG, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment, RedisDeployment
from tests.contract.workers import worker_of
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, CommandTimeout, CreateSession, ResyncRequired, Ticket, Turnstream, user_message
from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.client.subscriptions import feed
from turnstream.domain.models import partition_of
from turnstream.errors import KeyUnusable
from turnstream.events import MessageAdded

FOREIGN: dict[str, tuple[str | int, ...]] = {
    "string": ("SET", "a text"),
    "list": ("RPUSH", "a text"),
    "set": ("SADD", "a text"),
    "zset": ("ZADD", 1, "a text"),
    "hash": ("HSET", "a field", "a text"),
    "stream": ("XADD", "1-1", "a field", "a text"),
}
"""How to write a value of each type."""

TYPES = list(FOREIGN)
PARTITIONS = 8
UNREADABLE = {b"id": b"x", b"type": b"nope", b"data": b"{}"}


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": PARTITIONS, "lease": 2.0}


def _outcomes(keys: PartitionKeys) -> str:
    return keys.outcomes(int(time.time()) // 120)


KEYS: dict[str, tuple[str, Callable[[PartitionKeys], str]]] = {
    "commands": ("stream", lambda keys: keys.commands),
    "lease": ("string", lambda keys: keys.lease),
    "partition": ("hash", lambda keys: keys.partition),
    "events": ("stream", lambda keys: keys.events),
    "index": ("zset", lambda keys: keys.index),
    "outcomes": ("hash", _outcomes),
    "parked": ("hash", lambda keys: keys.parked),
    "malformed": ("stream", lambda keys: keys.malformed),
}
"""Each key of a whole partition, and its type."""


class Sender:
    """Appends to one session, a message after the other, and keeps the tickets of those that were accepted."""

    def __init__(self, ts: Turnstream, session_id: str) -> None:
        self.session_id = session_id
        self.accepted: dict[str, Ticket] = {}
        self.refusals: list[KeyUnusable] = []
        self.stopped = False
        self._ts = ts

    async def run(self) -> None:
        number = 0
        while not self.stopped:
            number += 1
            text = f"{self.session_id}: {number}"
            try:
                ticket = await self._ts.send(AddMessage(self.session_id, user_message(text)), timeout=3)
                self.accepted[text] = ticket
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await ticket
            except KeyUnusable as error:
                self.refusals.append(error)


def sessions(partitions: int = PARTITIONS) -> list[str]:
    """Return a session of each partition."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        found.setdefault(partition_of(f"s{number}", partitions), f"s{number}")
        number += 1
    return [found[partition] for partition in range(partitions)]


async def replace(site: RedisDeployment, key: str, kind: str) -> None:
    command, *words = FOREIGN[kind]
    await site.call(command, f"{key}:foreign", *words)
    await site.call("RENAME", f"{key}:foreign", key)


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
async def test_each_caller_gets_the_error_of_its_own_command(deployment: RedisDeployment) -> None:
    """They travelled together, and failed together."""
    ts = await client_of(deployment, worker=False)
    await replace(deployment, deployment.keys.partitions[0].commands, "string")
    ids = [f"c{number}" for number in range(3)]
    session_id = sessions()[0]
    sends = [ts.send(AddMessage(session_id, user_message("one")), command_id=each, timeout=0.2) for each in ids]
    errors = await asyncio.gather(*sends, return_exceptions=True)
    assert [error.command_id for error in errors if isinstance(error, KeyUnusable)] == ids


@pytest.mark.parametrize("deployment", ["embedded", "cluster"], indirect=True)
@pytest.mark.parametrize("key", KEYS)
async def test_its_partition_waits_and_all_others_continue(
    deployment: RedisDeployment, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of some partitions gets a value of another type; the rest is as it should be."""
    right, name_of = KEYS[key]
    names = sessions()
    first = await worker_of(deployment)
    ts = await client_of(deployment, worker=False)
    for name in names:
        await ts.execute(CreateSession(CONFIG, name))
    async with sending(ts, names) as senders:
        await wait_until(lambda: all(len(sender.accepted) > 3 for sender in senders))
        foreign = dict(enumerate(kind for kind in TYPES if kind != right))
        victims = {n: name_of(deployment.keys.partitions[n]) for n in foreign}
        for number, victim in victims.items():
            await replace(deployment, victim, foreign[number])
            if key != "commands":
                await deployment.append(number, UNREADABLE)
            else:
                with pytest.raises(KeyUnusable, match=re.escape(victim)):
                    await ts.send(AddMessage(names[number], user_message("refused")), timeout=0.2)
        healthy = [sender for number, sender in enumerate(senders) if number not in victims]
        await grows(healthy)
        # Another worker finds the key when it acquires partitions.
        second = await worker_of(deployment)
        await first.stop()
        await grows(healthy)
        await wait_until(lambda: all(any(victim in line for line in told(caplog)) for victim in victims.values()))
        await wait_until(lambda: second.owned >= set(range(len(victims), PARTITIONS)))
        assert not second.task.done()

        for victim in victims.values():
            await deployment.call("DEL", victim)
        await wait_until(lambda: second.owned == set(range(PARTITIONS)))
        await grows(senders)
    for number, sender in enumerate(senders):
        await applied_once(ts, sender)
        assert {error.key for error in sender.refusals} <= {victims.get(number)}
    # Each fault and each state is logged once, however often the worker retries.
    assert len(caplog.records) < 20 * len(victims)


@asynccontextmanager
async def sending(ts: Turnstream, names: list[str]) -> AsyncGenerator[list[Sender]]:
    senders = [Sender(ts, name) for name in names]
    tasks = [asyncio.create_task(sender.run()) for sender in senders]
    try:
        yield senders
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    finally:
        for sender in senders:
            sender.stopped = True
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()


async def grows(senders: list[Sender]) -> None:
    """Wait until more commands of each are applied."""
    async with asyncio.timeout(60):
        for sender in senders:
            known = len(sender.accepted)
            await wait_until(lambda sender=sender, known=known: len(sender.accepted) > known)  # type: ignore[misc]
            await answer_of(list(sender.accepted.values())[known])


async def answer_of(ticket: Ticket) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(CommandTimeout):
                await ticket
                return


async def applied_once(ts: Turnstream, sender: Sender) -> None:
    for ticket in sender.accepted.values():
        await answer_of(ticket)
    texts = texts_of(await ts.sessions.messages(sender.session_id))
    assert sorted(texts) == sorted(sender.accepted)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    fields = ("error", "reason", "stream", "partition")
    lines = [(record.message, *(vars(record).get(field) for field in fields)) for record in caplog.records]
    return sorted({str(line) for line in lines})


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often whether anything was missed."""
    monkeypatch.setattr(feed, "HEAD_CHECK_INTERVAL_S", 0.1)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("deployment", ["embedded", "cluster"], indirect=True)
@pytest.mark.parametrize("types", [(), (MessageAdded,)])
async def test_a_subscriber_to_all_continues_without_an_unreadable_partition(
    deployment: RedisDeployment, types: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is so at the start already, or since; and with it when it can be read again."""
    await worker_of(deployment)
    ts = await client_of(deployment, worker=False)
    bad, good = sessions()[:2]
    for name in (bad, good):
        await ts.execute(CreateSession(CONFIG, name))
    victim = deployment.keys.partitions[partition_of(bad, PARTITIONS)].events
    async with ts.subscribe(*types) as before:
        await deployment.call("RENAME", victim, f"{victim}:aside")
        await replace(deployment, victim, "list")
        async with ts.subscribe(*types) as since:
            for number in range(3):
                await ts.execute(AddMessage(good, user_message("x")))
                for events in (before, since):
                    assert (await next_of(events, MessageAdded)).version == number + 2
                await wait_until(lambda: said(caplog, "events of a partition cannot be read") == 2)
            await deployment.call("RENAME", f"{victim}:aside", victim)
            await ts.execute(AddMessage(bad, user_message("y")), timeout=30)
            for events in (before, since):
                assert (await next_of(events, MessageAdded)).session_id == bad
    assert said(caplog, "events of a partition cannot be read") == 2
    assert said(caplog, "subscription interrupted") == 0


async def next_of(events: AsyncIterator[object], kind: type[MessageAdded]) -> MessageAdded:
    async with asyncio.timeout(SOON):
        while True:
            event = await anext(events)
            assert not isinstance(event, ResyncRequired)
            if isinstance(event, kind):
                return event


def said(caplog: pytest.LogCaptureFixture, what: str) -> int:
    return sum(record.message == what for record in caplog.records)


@pytest.mark.parametrize("connection", ["no number", "0", "99999999999999999999", ""])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_member_that_another_program_has_written_ends_no_worker_and_holds_no_partition(
    real: EmbeddedDeployment, connection: str, *, elsewhere: bool
) -> None:
    """One that seems to be on the same server is looked after; and a sign of life of the future is one of now."""
    worker = await worker_of(real)
    run_id = "another" if elsewhere else (await real.raw.info("server"))["run_id"]
    record = f"{int(time.time() * 1000) + 3_600_000} {run_id}:{connection}"
    await real.call("HSET", real.keys.workers, "foreign:1", record)
    await wait_until(lambda: _is_forgotten(real))
    await wait_until(lambda: worker.owned == set(range(PARTITIONS)))
    assert not worker.task.done()


async def _is_forgotten(real: EmbeddedDeployment) -> bool:
    return not await real.call("HEXISTS", real.keys.workers, "foreign:1")
