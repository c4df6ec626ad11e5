"""Durable subscriptions under faults: all surviving events are handled in order."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.chaos.members import NAME, Members, missed, out_of_order, repeats
from tests.chaos.processes import ChaosServer
from tests.contract.chats import a_session, id_in, persistently
from tests.contract.deployments import client_of
from tests.contract.hearing import take
from tests.contract.members import Handler, killed, running
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.integration.groups import OnGroup, on_group
from tests.integration.test_subscribe_faults import is_lagging
from tests.topologies import Node, RunningCluster, copied, running_cluster
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, ResyncRequired, Turnstream, user_message
from turnstream.domain.position import LogPosition
from turnstream.settings import Settings

PARTITIONS = 4
SESSIONS = 8
LEASE = 0.5


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": PARTITIONS, "lease": LEASE}


@pytest.fixture
def members(real: EmbeddedDeployment, tmp_path: Path) -> Iterator[Members]:
    settings = real.settings
    environment = {
        "TURNSTREAM_REDIS_URL": settings.redis_url.get_secret_value(),
        "TURNSTREAM_NAMESPACE": settings.namespace,
        "TURNSTREAM_PARTITIONS": str(settings.partitions),
        "TURNSTREAM_LEASE": str(settings.lease),
    }
    made = Members(environment, tmp_path)
    yield made
    made.close()


@asynccontextmanager
async def chatting(ts: Turnstream) -> AsyncGenerator[None]:
    """Have a producer of each of some sessions send for the time of the block."""
    stopping = asyncio.Event()

    async def chat(number: int) -> None:
        session = await a_session(ts, session_id=id_in(number % PARTITIONS, PARTITIONS))
        while not stopping.is_set():
            await persistently(ts, AddMessage(session.id, user_message("more")))
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as tasks:
        for number in range(SESSIONS):
            tasks.create_task(chat(number))
        try:
            yield
        finally:
            stopping.set()


async def all_events(real: EmbeddedDeployment) -> Sequence[Any]:
    return [event for partition in range(PARTITIONS) for event in await real.events(partition)]


# ── members that are killed and stopped ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_consumers_are_killed_and_stopped_while_commands_flow(
    real: EmbeddedDeployment,
    members: Members,
    record_property: Any,  # noqa: ANN401
) -> None:
    await worker_of(real)
    client = await client_of(real, worker=False)
    chance = Random(11)
    for _ in range(2):
        members.start()
    await wait_until(lambda: _is_listed(client))
    async with chatting(client), _checkpoints_never_go_back(client):
        await _stopped_for_a_while(members, chance)
        await asyncio.sleep(chance.uniform(0, LEASE))
        # The others continue; a replacement would only be slow to start.
        dying = await members.one_at_work(chance)
        dying.kill()
        members.alive.remove(dying)
        await asyncio.sleep(chance.uniform(0, LEASE))
    events = await all_events(real)
    await wait_until(lambda: not missed(members.handled(), events))
    assert not out_of_order(members.handled(), events)
    record_property("events", len(events))
    record_property("handled again", repeats(members.handled()))


async def _stopped_for_a_while(members: Members, chance: Random) -> None:
    """Pause a consumer until others own its partitions; it then continues with the event it was handling."""
    member = await members.one_at_work(chance)
    member.pause()
    await asyncio.sleep(LEASE * chance.uniform(1.3, 2.0))
    member.resume()


@asynccontextmanager
async def _checkpoints_never_go_back(ts: Turnstream) -> AsyncGenerator[None]:
    """Fail if a consumer that has been replaced stores a checkpoint."""

    async def look() -> None:
        before: dict[int, LogPosition] = {}
        while True:
            for partition, mark in (await ts._backend.subscriptions.checkpoints(NAME)).items():
                assert mark.sequence >= before.get(partition, mark).sequence, (partition, mark)
                before[partition] = mark
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    try:
        yield
        assert not looking.done(), looking
    finally:
        looking.cancel()


async def _is_listed(ts: Turnstream) -> bool:
    return NAME in {info.name async for info in ts.admin.consumers.list()}


async def _is_idle(ts: Turnstream) -> bool:
    lags = [each async for each in ts.admin.consumers.lag(NAME)]
    return all(lag.mark is not None and lag.behind == 0 for lag in lags)


@pytest.mark.slow
async def test_exactly_the_event_that_killed_a_consumer_is_redelivered(
    real: EmbeddedDeployment, members: Members
) -> None:
    client = await client_of(real)
    dying = members.start("--die-on", "4")
    await wait_until(lambda: _is_listed(client))
    await a_session(client, session_id="s")
    for _ in range(2):
        await client.execute(AddMessage("s", user_message("handled, and written down")))
        await wait_until(lambda: _is_idle(client))
    await client.execute(AddMessage("s", user_message("handled, and not written down")))
    await wait_until(lambda: not dying.runs)
    await client.execute(AddMessage("s", user_message("behind it")))
    members.start()
    await wait_until(lambda: len(members.handled()) == 6)
    assert [(one.member, one.sequence) for one in members.handled()] == [
        *(("m1", 1), ("m1", 2), ("m1", 3), ("m1", 4)),
        *(("m2", 4), ("m2", 5)),
    ]


@pytest.mark.slow
async def test_consumers_come_and_go_under_load(real: EmbeddedDeployment, record_property: Any) -> None:  # noqa: ANN401
    await worker_of(real)
    client = await client_of(real, worker=False)
    handler = Handler()
    async with running(client.consumer(NAME, start="beginning"), handler):
        async with chatting(client):
            for _ in range(4):
                other = await client_of(real, worker=False)
                async with running(other.consumer(NAME), handler):
                    await asyncio.sleep(0.4)
        events = await all_events(real)
        await wait_until(lambda: not _missed_by(handler, events))
    assert _first_versions_ascend(handler)
    assert not handler.resyncs
    record_property("handled again", len(handler.seen) - len(events))


def _missed_by(handler: Handler, events: Sequence[Any]) -> bool:
    return bool({e.meta.event_id for e in events} - {e.meta.event_id for e in handler.seen if e.meta})


def _first_versions_ascend(handler: Handler) -> bool:
    first: dict[str, dict[int, None]] = {}
    for event in handler.seen:
        first.setdefault(event.session_id, {}).setdefault(event.version)
    return all(list(versions) == sorted(versions) for versions in first.values())


# ── connections and servers ──────────────────────────────────────────────────────────────────────────────────────────


async def test_connections_are_killed_while_events_are_handled(real: EmbeddedDeployment) -> None:
    await worker_of(real)
    client = await client_of(real, worker=False)
    handler = Handler()
    async with running(client.consumer(NAME, start="beginning"), handler):
        async with chatting(client):
            for kill in range(1, 4):
                await wait_until(lambda least=kill * 40: len(handler.seen) > least)  # type: ignore[misc]
                for kind in ("normal", "pubsub"):
                    await real.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        events = await all_events(real)
        await wait_until(lambda: not _missed_by(handler, events))
    assert _first_versions_ascend(handler)
    assert not handler.resyncs


@pytest.mark.slow
async def test_the_server_is_killed_and_restarted(tmp_path: Path, overrides: dict[str, Any]) -> None:
    server = ChaosServer(tmp_path)
    real = EmbeddedDeployment(Settings(namespace="durable", **overrides).at(server.url))
    try:
        await worker_of(real)
        client = await client_of(real, worker=False)
        handler = Handler()
        async with running(client.consumer(NAME, start="beginning"), handler):
            async with chatting(client):
                await wait_until(lambda: len(handler.seen) > 50)
                await asyncio.to_thread(server.kill_and_restart)
                before = len(handler.seen)
                await wait_until(lambda: len(handler.seen) > before + 50)
            events = await all_events(real)
            await wait_until(lambda: not _missed_by(handler, events))
        assert _first_versions_ascend(handler)
        assert not handler.resyncs
        await real.aclose()
    finally:
        server.close()


@pytest.fixture
async def group() -> AsyncIterator[tuple[OnGroup, RunningCluster]]:
    with running_cluster() as moving:
        async with on_group(moving.url) as deployment:
            yield deployment, moving


@pytest.mark.slow
@pytest.mark.parametrize("outage", ["short", "long"])
async def test_a_primary_is_lost_with_checkpoints_and_events(
    group: tuple[OnGroup, RunningCluster], outage: str
) -> None:
    """Checkpoints are rolled back with the events: only the consumer that handled them can detect the loss."""
    deployment, moving = group
    await worker_of(deployment)
    client = await client_of(deployment, worker=False)
    handler = Handler()
    subscription = client.consumer(NAME, start="beginning")
    session_id = id_in(0, PARTITIONS)
    primary = moving.holder(deployment.keys.partitions[0].partition)
    replica = moving.replica_of(primary)
    async with running(subscription, handler):
        await a_session(client, "kept", session_id=session_id)
        await wait_until(lambda: handler.versions(session_id) == [1, 2])
        await wait_until(lambda: _is_written_down(client, 2))
        await asyncio.to_thread(copied, primary, replica)
        await is_lagging(primary, replica)
        for text in ("lost", "lost, too"):
            await client.execute(AddMessage(session_id, user_message(text)))
        await wait_until(lambda: _is_written_down(client, 4))
        if outage == "long":
            _keep_away(primary, lambda: not subscription._member or 0 not in subscription._member.owned)
        await asyncio.to_thread(moving.fail_over, primary, replica)
        async with chatting(client):
            await persistently(client, AddMessage(session_id, user_message("again")))
            await wait_until(lambda: len(handler.versions(session_id)) == 5)
        # Every event that survived is handled; another subscription that begins now receives them.
        events = await _survived(client)
        await wait_until(lambda: not _missed_by(handler, events))
    assert handler.versions(session_id) == [1, 2, 3, 4, 3]
    lost = [resync for resync in handler.resyncs if resync.partition == 0]
    assert [(resync.reason, resync.lost, resync.seen.sequence, resync.resumed.sequence) for resync in lost] == [
        ("failover", 2, 4, 2),
    ]
    assert all(resync.reason == "failover" for resync in handler.resyncs)
    assert all(len(resync.position.log_positions) == PARTITIONS for resync in handler.resyncs)


async def _is_written_down(client: Turnstream, sequence: int) -> bool:
    mark = (await client._backend.subscriptions.checkpoints(NAME)).get(0)
    return mark is not None and mark.sequence == sequence


def _keep_away(primary: Node, noticed: Callable[[], bool]) -> None:
    """Let a primary, once it is stopped, be replaced only when that was noticed; it is stopped in a thread."""
    stop = primary.stop

    def stop_for_long() -> None:
        stop()
        deadline = time.monotonic() + SOON
        while not noticed():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    primary.stop = stop_for_long  # type: ignore[method-assign]


async def _survived(client: Turnstream) -> Sequence[Any]:
    heads = [(await client._backend.events.read(number, 0, 0)).head for number in range(PARTITIONS)]
    async with client.subscribe(start="beginning") as events:
        return await take(events, sum(heads))


# ── history that is gone ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("start", ["now", "beginning"])
async def test_a_flush_is_reported_and_later_events_are_handled(real: EmbeddedDeployment, start: Any) -> None:  # noqa: ANN401
    client = await client_of(real)
    ids = [id_in(number, PARTITIONS) for number in range(PARTITIONS)]
    handler = Handler()
    async with running(client.consumer(NAME, start=start), handler):
        await wait_until(lambda: _is_listed(client))
        await wait_until(lambda: _is_idle(client))
        for session_id in ids:
            await a_session(client, session_id=session_id)
        await wait_until(lambda: len(handler.seen) == PARTITIONS)
        await real.call("FLUSHALL")
        for session_id in ids:
            await _created_again(client, session_id)
        await wait_until(lambda: all(handler.versions(session_id)[-1:] == [2] for session_id in ids))
    assert [handler.versions(session_id) for session_id in ids] == [[1, 1, 2]] * PARTITIONS
    assert {(resync.partition, resync.reason) for resync in handler.resyncs} == {
        (partition, "reset") for partition in range(PARTITIONS)
    }


async def _created_again(ts: Turnstream, session_id: str) -> None:
    async with asyncio.timeout(SOON):
        await a_session(ts, session_id=session_id)
        await persistently(ts, AddMessage(session_id, user_message("after the flush")))


async def test_events_trimmed_while_a_subscription_was_stopped_are_reported_once(real: EmbeddedDeployment) -> None:
    client = await client_of(real)
    handler = Handler()
    lossy, whole = (id_in(partition, PARTITIONS) for partition in (0, 1))
    async with running(client.consumer(NAME), handler):
        await wait_until(lambda: _is_listed(client))
        await wait_until(lambda: _is_idle(client))
    for session_id in (lossy, whole):
        await a_session(client, session_id=session_id)
        for _ in range(4):
            await client.execute(AddMessage(session_id, user_message("while nobody listens")))
    await real.call("XTRIM", real.keys.partitions[0].events, "MAXLEN", 2)
    for _ in range(2):
        async with running(client.consumer(NAME), handler):
            await wait_until(lambda: _is_idle(client))
    assert (handler.versions(lossy), handler.versions(whole)) == ([4, 5], [1, 2, 3, 4, 5])
    (resync,) = handler.resyncs
    assert isinstance(resync, ResyncRequired)
    assert (resync.partition, resync.reason, resync.lost) == (0, "retention", 3)


async def test_a_reported_loss_is_not_reported_again_after_a_crash(real: EmbeddedDeployment) -> None:
    client = await client_of(real)
    session = await a_session(client, session_id=id_in(0, PARTITIONS))
    await client.execute(AddMessage(session.id, user_message("kept")))
    handler, again = Handler(), Handler()
    async with running(client.consumer(NAME, start="beginning"), handler):
        await wait_until(lambda: len(handler.seen) == 2)
    await client.admin.consumers.reset(NAME, "beginning")
    await real.call("XTRIM", real.keys.partitions[0].events, "MAXLEN", 1)
    reached = asyncio.Event()

    async def stuck(event: Any) -> None:  # noqa: ANN401
        if isinstance(event, ResyncRequired):
            return
        reached.set()
        await asyncio.Event().wait()

    dying = (await client_of(real, worker=False)).consumer(NAME)
    task = asyncio.create_task(dying.run(stuck))
    await asyncio.wait_for(reached.wait(), SOON)
    await killed(dying, task)
    async with running(client.consumer(NAME), again):
        await wait_until(lambda: len(again.seen) == 1)
    assert not again.resyncs
