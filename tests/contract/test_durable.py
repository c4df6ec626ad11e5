"""Durable subscriptions: each event at least once, in order, by any number of members (design §6)."""

import asyncio
from functools import partial
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, id_in, messages_of
from tests.contract.deployments import Deployment, client_of, opened
from tests.contract.members import PARTITIONS, Handler, killed, running, started
from tests.waiting import SOON, wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    CreateSession,
    InvalidCommand,
    NotHandled,
    ResyncRequired,
    RetryPolicy,
    Turnstream,
    Unavailable,
    UpdateTokenMetrics,
    backoff,
    user_message,
)
from turnstream.admin import ParkedSession
from turnstream.client.consumers import partition_consumer
from turnstream.client.consumers.handler_calls import HandlerCalls
from turnstream.client.subscriptions.gap_detector import EventFilter
from turnstream.domain.models import partition_of
from turnstream.domain.position import LogPosition
from turnstream.errors import SessionNotParked, SubscriptionInUse, SubscriptionNotFound
from turnstream.events import Event, MessageAdded
from turnstream.ports import Backend
from turnstream.signals import Fenced


async def chats(ts: Turnstream, count: int = 8, each: int = 3) -> list[str]:
    """Make sessions in all partitions, with messages; return their ids."""
    ids = [id_in(number % PARTITIONS, PARTITIONS) for number in range(count)]
    for session_id in ids:
        await ts.send(CreateSession(CONFIG, session_id))
    for text in range(each):
        for session_id in ids:
            await ts.execute(AddMessage(session_id, user_message(str(text))))
    return ids


async def test_all_events_are_handled_in_order(ts: Turnstream) -> None:
    handler = Handler()
    subscription = ts.consumer("billing", MessageAdded)
    async with running(subscription, handler):
        await wait_until(lambda: started(subscription))
        ids = await chats(ts)
        await wait_until(lambda: len(handler.seen) == 24)
    assert [handler.versions(session_id) for session_id in ids] == [[2, 3, 4]] * 8
    assert {type(event) for event in handler.seen} == {MessageAdded}
    assert all([lag.behind == 0 async for lag in ts.admin.consumers.lag("billing")])


async def test_a_consumer_resumes_at_its_checkpoint(ts: Turnstream) -> None:
    ids = await chats(ts)
    first, second = Handler(), Handler()
    async with running(ts.consumer("billing", start="beginning"), first):
        await wait_until(lambda: len(first.seen) == 32)
    await ts.execute(AddMessage(ids[0], user_message("more")))
    async with running(ts.consumer("billing", start="beginning"), second):
        await wait_until(lambda: second.versions(ids[0]) == [5])
    assert len(second.seen) == 1


async def test_a_new_subscription_begins_at_the_requested_start(ts: Turnstream) -> None:
    ids = await chats(ts, each=1)
    place = await ts.position()
    await ts.execute(AddMessage(ids[0], user_message("behind the position")))
    now = Handler()
    subscription = ts.consumer("now")
    async with running(subscription, now):
        await wait_until(lambda: started(subscription))
        await ts.execute(AddMessage(ids[0], user_message("new")))
        await wait_until(lambda: now.versions(ids[0]) == [4])
    there = Handler()
    async with running(ts.consumer("there", start=place), there):
        await wait_until(lambda: there.versions(ids[0]) == [3, 4])
    assert len(there.seen) == 2


async def test_consumers_share_the_partitions(deployment: Deployment, ts: Turnstream) -> None:
    other = await client_of(deployment, worker=False)
    handlers = Handler(), Handler()
    members = ts.consumer("billing", MessageAdded), other.consumer("billing", MessageAdded)
    async with running(members[0], handlers[0]), running(members[1], handlers[1]):
        await wait_until(lambda: all(m._member and len(m._member.owned) == PARTITIONS // 2 for m in members))
        ids = await chats(ts, count=16)
        await wait_until(lambda: sum(len(handler.seen) for handler in handlers) >= 48)
        (info,) = [each async for each in ts.admin.consumers.list()]
        assert len(info.members) == 2
    assert all(handler.seen for handler in handlers)
    by = [{event.session_id for event in handler.seen} for handler in handlers]
    assert not by[0] & by[1]
    for session_id in ids:
        assert [*handlers[0].versions(session_id), *handlers[1].versions(session_id)] == [2, 3, 4]


@pytest.mark.parametrize(
    "deployment", ["fakeredis", "embedded", "cluster"], indirect=True
)  # in memory all die together
@pytest.mark.parametrize("overrides", [{"lease": 0.5}])
async def test_events_after_the_last_checkpoint_of_a_killed_consumer_are_redelivered(
    deployment: Deployment, ts: Turnstream
) -> None:
    ids = await chats(ts)
    other = await client_of(deployment, worker=False)
    first, second = Handler(), Handler()
    dying = other.consumer("billing", start="beginning")
    task = asyncio.create_task(dying.run(first))
    await wait_until(lambda: len(first.seen) > 0)
    await killed(dying, task)
    async with running(ts.consumer("billing"), second):
        await wait_until(lambda: len({e.meta.event_id for e in (*first.seen, *second.seen) if e.meta}) == 32)
    for session_id in ids:
        versions = second.versions(session_id)
        assert versions == list(range(5 - len(versions), 5))


# ── events that fail ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_consumer_that_was_replaced_while_paused_reports_no_loss(
    deployment: Deployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other consumers have handled the events that were trimmed during its pause."""
    monkeypatch.setattr(partition_consumer, "POLL_INTERVAL_S", 3_600.0)
    backend = await opened(deployment)
    membership = backend.subscriptions.membership("s")
    state = await membership.take(0, "is paused")
    assert state
    handler = Handler()
    standing = partition_consumer.PartitionConsumer(
        partition_consumer.ConsumerContext(
            name="s",
            partitions=PARTITIONS,
            wanted=EventFilter((), None),
            events=backend.events,
            subscriptions=backend.subscriptions,
            calls=HandlerCalls(handler, RetryPolicy(attempts=1)),
            start_position=partial(_beginning, backend),
            handled={},
        ),
        state,
    )
    session = await a_session(ts, session_id=id_in(0, PARTITIONS))
    task = asyncio.create_task(standing.run())
    await wait_until(lambda: standing.progress is not None and standing.progress.sequence == 1)
    await membership.release([state])
    other = await membership.take(0, "continues")
    assert other
    for _ in range(3):
        await ts.execute(AddMessage(session.id, user_message("handled by the other one")))
    await backend.subscriptions.checkpoint("s", other, LogPosition((await _beginning(backend, 0)).generation, 4))
    await deployment.trim(0, 4)
    standing.wake()
    with pytest.raises(Fenced):
        await asyncio.wait_for(task, SOON)
    assert (len(handler.seen), handler.resyncs) == (1, [])


async def _beginning(backend: Backend, partition: int) -> LogPosition:
    return LogPosition((await backend.events.read(partition, 0, 0)).generation, 0)


async def test_events_that_fail_occasionally_are_retried_in_order(ts: Turnstream) -> None:
    handler = Handler()
    failures = iter([True, False, True, True, False] + [False] * 100)

    async def shaky(event: Event | ResyncRequired) -> None:
        if next(failures):
            raise ConnectionError
        await handler(event)

    subscription = ts.consumer("billing")
    task = asyncio.create_task(subscription.run(shaky))
    await wait_until(lambda: started(subscription))
    ids = await chats(ts, count=2)
    await wait_until(lambda: len(handler.seen) == 8)
    assert [handler.versions(session_id) for session_id in ids] == [[1, 2, 3, 4]] * 2
    # The last event leaves its queue after the handler has returned.
    await wait_until(lambda: _all_left(ts, "billing"))
    subscription.stop()
    await task


async def test_a_session_that_fails_is_parked_and_others_continue(
    ts: Turnstream, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = id_in(0, PARTITIONS), id_in(0, PARTITIONS)
    handler = Handler()
    handler.refused = {bad}
    async with running(ts.consumer("billing", MessageAdded, start="beginning", attempts=3), handler):
        for session_id in (bad, good):
            await a_session(ts, session_id=session_id)
            await ts.execute(AddMessages(session_id, messages_of("ab")))
        await wait_until(lambda: handler.versions(good) == [2, 2])
        await wait_until(lambda: _parked(ts, "billing", 2))
        assert handler.refusals[bad] == 3
        (parked,) = [each async for each in ts.admin.consumers.parked("billing")]
        assert (parked.session_id, parked.events, parked.reason, parked.attempts, parked.lost) == (
            *(bad, 2, "ConnectionError", 3, 0),
        )
        # Not while the reason is still there; it is tried again as if nothing had happened before.
        assert await ts.admin.consumers.redrive("billing", bad) == 2
        await wait_until(lambda: _parked(ts, "billing", 2))
        assert handler.refusals[bad] == 3 + 2 * 3  # nothing was handled since another one was parked
        await ts.execute(AddMessage(bad, user_message("behind")))
        handler.refused.clear()
        await wait_until(lambda: _parked(ts, "billing", 3))
        assert await ts.admin.consumers.redrive("billing", bad) == 0
        assert handler.versions(bad) == [2, 2, 3]
        await ts.execute(AddMessage(bad, user_message("new")))
        await wait_until(lambda: handler.versions(bad) == [2, 2, 3, 4])
    assert "secret" not in caplog.text
    told = [getattr(record, "where", "") for record in caplog.records if "not handled" in record.message]
    assert told
    assert [where for where in told if not (where.startswith("members.py:") and "__call__" in where)] == []
    assert [each async for each in ts.admin.consumers.parked("billing")] == []
    with pytest.raises(SessionNotParked, match=f"billing has not parked the session {good}"):
        await ts.admin.consumers.redrive("billing", good)


async def test_the_reason_of_a_handler_is_stored_and_not_every_failure_counts(ts: Turnstream) -> None:
    calls = 0

    async def unreachable_at_first(event: Event | ResyncRequired) -> None:
        nonlocal calls
        calls += 1
        raise NotHandled("HTTP 500", counts=calls > 3)

    async with running(ts.consumer("billing", start="beginning", attempts=2), unreachable_at_first):
        await a_session(ts, session_id="s")
        await wait_until(lambda: _parked(ts, "billing", 1))
        (parked,) = [each async for each in ts.admin.consumers.parked("billing")]
    assert (parked.reason, parked.attempts, calls) == ("HTTP 500", 2, 5)


async def test_only_sessions_with_a_prefix(ts: Turnstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipping an event is not a success: without one, each session gets twice the attempts of the last."""
    monkeypatch.setattr(backoff, "LONGEST", 0.001)
    handler = Handler()
    handler.refused = {f"mine-{number}" for number in range(3)}
    mine = ts.consumer("billing", start="beginning", attempts=2, session_prefix="mine-")
    async with running(mine, handler):
        for number in range(3):
            await a_session(ts, session_id=f"mine-{number}")
            await a_session(ts, session_id=f"other-{number}")
            await wait_until(partial(_parked, ts, "billing", number + 1))
        parked = [each async for each in ts.admin.consumers.parked("billing")]
        assert [session.attempts for session in parked] == [2, 4, 8]
        await a_session(ts, session_id="mine-well")
        await wait_until(lambda: handler.versions("mine-well") == [1])
    assert {event.session_id for event in handler.seen} == {"mine-well"}


async def test_an_invalid_session_id_is_not_parked(ts: Turnstream) -> None:
    async with running(ts.consumer("billing"), Handler()):
        await wait_until(lambda: _exists(ts, "billing"))
        for odd in ("", "\ud800", "x" * 1000):
            with pytest.raises(InvalidCommand):
                await ts.admin.consumers.redrive("billing", odd)
            with pytest.raises(InvalidCommand):
                await ts.admin.consumers.discard("billing", odd)


async def _exists(ts: Turnstream, name: str) -> bool:
    return name in {info.name async for info in ts.admin.consumers.list()}


async def _all_left(ts: Turnstream, name: str) -> bool:
    return [each async for each in ts.admin.consumers.parked(name)] == []


async def _parked(ts: Turnstream, name: str, events: int) -> bool:
    return sum([parked.events async for parked in ts.admin.consumers.parked(name) if parked.is_parked]) == events


async def test_parked_events_are_discarded(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    async with running(ts.consumer("billing", start="beginning", attempts=1), handler):
        await a_session(ts, session_id="s")
        await wait_until(lambda: _parked(ts, "billing", 1))
        assert await ts.admin.consumers.discard("billing", "s") == 0
        handler.refused.clear()
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=10))
        await wait_until(lambda: handler.versions("s") == [2])


async def test_the_next_consumer_knows_the_parked_sessions(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    async with running(ts.consumer("billing", start="beginning", attempts=1), handler):
        await a_session(ts, session_id="s")
        await wait_until(lambda: _parked(ts, "billing", 1))
    await ts.execute(UpdateTokenMetrics("s", prompt_tokens=10))
    handler.refused.clear()
    async with running(ts.consumer("billing"), handler):
        await wait_until(lambda: _parked(ts, "billing", 2))
        assert await ts.admin.consumers.redrive("billing", "s") == 0
    assert handler.versions("s") == [1, 2]


async def test_a_request_from_before_a_session_was_parked_is_ignored(deployment: Deployment, ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    # As of an operator who was overtaken by another one.
    subscriptions = (await opened(deployment)).subscriptions
    await subscriptions.request("billing", partition_of("s", PARTITIONS), "s", "discard")
    async with running(ts.consumer("billing", start="beginning", attempts=1), handler):
        await a_session(ts, session_id="s")
        await wait_until(lambda: _parked(ts, "billing", 1))
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=10))
        await wait_until(lambda: _parked(ts, "billing", 2))
        handler.refused.clear()
        assert await ts.admin.consumers.redrive("billing", "s") == 0
    assert handler.versions("s") == [1, 2]


@pytest.mark.parametrize("overrides", [{"parked_events": 2}])
async def test_events_for_which_the_queue_has_no_room_are_reported_as_lost(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    async with running(ts.consumer("billing", start="beginning", attempts=1), handler):
        await a_session(ts, session_id="s")
        for number in range(3):
            await ts.execute(UpdateTokenMetrics("s", prompt_tokens=number))
        await wait_until(lambda: _lost(ts, 2))
        handler.refused.clear()
        assert await ts.admin.consumers.redrive("billing", "s") == 0
    assert handler.versions("s") == [1, 2]
    (resync,) = handler.resyncs
    assert (resync.reason, resync.lost, resync.session_id) == ("parking", 2, "s")


@pytest.mark.parametrize("overrides", [{"parked_events": 1}])
async def test_a_session_that_lost_all_its_events_can_be_released(ts: Turnstream) -> None:
    handler = Handler()
    first, second = id_in(0, PARTITIONS), id_in(0, PARTITIONS)
    handler.refused = {first, second}
    async with running(ts.consumer("billing", start="beginning", attempts=1), handler):
        for session_id in (first, second):
            await a_session(ts, session_id=session_id)
        await wait_until(lambda: _lost(ts, 1))
        handler.refused.clear()
        assert await ts.admin.consumers.redrive("billing", second) == 0
        assert [parked.session_id async for parked in ts.admin.consumers.parked("billing")] == [first]
        await ts.execute(UpdateTokenMetrics(second, prompt_tokens=1))
        await wait_until(lambda: handler.versions(second) == [2])
    assert [(resync.session_id, resync.lost) for resync in handler.resyncs] == [(second, 1)]


async def _parked_of(ts: Turnstream, name: str) -> list[ParkedSession]:
    return [session async for session in ts.admin.consumers.parked(name) if session.is_parked]


async def _lost(ts: Turnstream, lost: int) -> bool:
    return sum([parked.lost async for parked in ts.admin.consumers.parked("billing")]) == lost


async def test_few_sessions_are_parked_while_nothing_succeeds(ts: Turnstream) -> None:
    """While another service is down, not all of its sessions are parked."""
    handler = Handler()
    ids = [id_in(0, PARTITIONS) for _ in range(6)]
    handler.refused = set(ids)
    async with running(ts.consumer("billing", start="beginning", attempts=2), handler):
        for session_id in ids:
            await a_session(ts, session_id=session_id)
        await wait_until(lambda: _parked(ts, "billing", 2))
        parked = {session.session_id: session.attempts for session in await _parked_of(ts, "billing")}
        assert sorted(parked.values()) == [2, 4]
        handler.refused = set(parked)
        others = set(ids) - set(parked)
        await wait_until(lambda: all(handler.versions(session_id) == [1] for session_id in others))


# ── operators ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_reset(ts: Turnstream) -> None:
    ids = await chats(ts, count=2)
    handler = Handler()
    async with running(ts.consumer("billing", MessageAdded), handler):
        await wait_until(lambda: _has(ts, "billing"))
        await ts.admin.consumers.reset("billing", "beginning")
        await wait_until(lambda: all(handler.versions(session_id) == [2, 3, 4] for session_id in ids))
        handler.seen.clear()
        await ts.admin.consumers.reset("billing", "now")
        await ts.execute(AddMessage(ids[0], user_message("new")))
        await wait_until(lambda: handler.versions(ids[0])[-1:] == [5])
    assert not handler.resyncs


async def _has(ts: Turnstream, name: str) -> bool:
    return name in {info.name async for info in ts.admin.consumers.list()}


async def test_events_handled_while_the_lag_is_read_do_not_make_it_negative(
    ts: Turnstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, subscription = Handler(), ts.consumer("billing")
    subscriptions = ts._backend.subscriptions
    marks = subscriptions.checkpoints

    async def handled_meanwhile(name: str) -> Any:  # noqa: ANN401
        session = await a_session(ts)
        await wait_until(lambda: handler.versions(session.id) == [1])
        partition = partition_of(session.id, PARTITIONS)
        head = (await ts._backend.events.read(partition, 0, 0)).head

        async def is_written_down() -> bool:
            mark = (await marks(name)).get(partition)
            return mark is not None and mark.sequence == head

        await wait_until(is_written_down)
        return await marks(name)

    async with running(subscription, handler):
        await wait_until(lambda: started(subscription))
        monkeypatch.setattr(subscriptions, "checkpoints", handled_meanwhile)
        assert [info.lag async for info in ts.admin.consumers.list()] == [0]


async def test_lag_and_forget(ts: Turnstream) -> None:
    with pytest.raises(SubscriptionNotFound, match="known: none"):
        [each async for each in ts.admin.consumers.lag("billing")]
    handler = Handler()
    subscription = ts.consumer("billing")
    async with running(subscription, handler):
        await wait_until(lambda: started(subscription))
        with pytest.raises(SubscriptionInUse):
            await ts.admin.consumers.forget("billing")
    await chats(ts, count=4, each=2)
    (info,) = [each async for each in ts.admin.consumers.list()]
    assert (info.name, info.members, info.lag, info.parked_sessions) == ("billing", (), 12, 0)
    assert sum([lag.behind async for lag in ts.admin.consumers.lag("billing")]) == 12
    await ts.admin.consumers.forget("billing")
    assert [each async for each in ts.admin.consumers.list()] == []


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "ü", "a:b", "{a}"])
def test_invalid_names(ts: Turnstream, name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        ts.consumer(name)


def test_invalid_arguments(ts: Turnstream) -> None:
    with pytest.raises(ValueError, match="at least once"):
        ts.consumer("billing", attempts=0)


async def test_one_object_is_one_consumer(ts: Turnstream) -> None:
    subscription = ts.consumer("billing")
    async with running(subscription, Handler()):
        await wait_until(lambda: subscription._member is not None)
        with pytest.raises(RuntimeError, match="is running already"):
            await subscription.run(Handler())


# ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_closing_the_client_ends_its_consumers(deployment: Deployment) -> None:
    """They finish the event being handled, which may need the client, and store a checkpoint."""
    client = await client_of(deployment)
    begun, goes_on = asyncio.Event(), asyncio.Event()
    seen: list[Event | ResyncRequired] = []

    async def handle(event: Event | ResyncRequired) -> None:
        begun.set()
        await goes_on.wait()
        assert await client.sessions.get("s")
        seen.append(event)

    running = asyncio.create_task(client.consumer("billing", start="beginning", attempts=1).run(handle))
    await a_session(client, session_id="s")
    await begun.wait()
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    goes_on.set()
    await asyncio.wait_for(asyncio.gather(closing, running), SOON)
    assert len(seen) == 1


@pytest.mark.parametrize("aside", [False, True])
async def test_a_handler_that_closes_the_client_is_not_a_deadlock(deployment: Deployment, aside: bool) -> None:
    client = await client_of(deployment)

    async def handle(_: Event | ResyncRequired) -> None:
        await (asyncio.create_task(client.aclose()) if aside else client.aclose())

    running = asyncio.create_task(client.consumer("billing", start="beginning").run(handle))
    await a_session(client, session_id="s")
    await asyncio.wait_for(running, SOON)


async def test_a_consumer_of_a_closed_client_does_not_run(deployment: Deployment) -> None:
    client = await client_of(deployment)
    subscription = client.consumer("billing")
    await client.aclose()
    with pytest.raises(Unavailable, match="closed: open a new one"):
        await subscription.run(Handler())


async def test_a_consumer_that_starts_while_the_client_closes_ends(deployment: Deployment) -> None:
    client = await client_of(deployment)
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def handle(_: Event | ResyncRequired) -> None:
        begun.set()
        await goes_on.wait()

    first = asyncio.create_task(client.consumer("billing", start="beginning").run(handle))
    await a_session(client)
    await begun.wait()
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    second = asyncio.create_task(client.consumer("audit").run(handle))
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.wait_for(asyncio.gather(closing, first, second), SOON)
