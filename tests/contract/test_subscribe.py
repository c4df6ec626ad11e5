"""Live events for subscribers (design §6, §10)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest
from tests.contract.chats import CONFIG, a_session, messages_of
from tests.contract.deployments import Deployment, client_of
from tests.contract.hearing import take, unplaced
from tests.waiting import SOON, wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    ResyncRequired,
    Trace,
    Turnstream,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.commands import ChatMessagePatch, SessionConfigPatch, SessionPatch
from turnstream.events import (
    ContextWindowCritical,
    Event,
    EventMeta,
    MessageAdded,
    MessageRemoved,
    MessageUpdated,
    SessionConfigUpdated,
    SessionCreated,
    SessionDeleted,
    SessionUpdated,
    TokenMetricsUpdated,
    fold,
)
from turnstream.ports import Backend, EventPage

Some = TypeVar("Some")


async def a_whole_life(ts: Turnstream, session_id: str) -> list[type[Event]]:
    """Let everything happen to a session; return the classes of its events."""
    session = await a_session(ts, session_id=session_id)
    message = user_message("one")
    await ts.execute(AddMessage(session.id, message))
    await ts.execute(AddMessages(session.id, messages_of("ab")))
    await ts.execute(UpdateMessage(session.id, message.id, updates=ChatMessagePatch(metadata={"a": 1})))
    await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=1_000))
    await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=6_000))
    await ts.execute(UpdateSession(session.id, SessionPatch(config=SessionConfigPatch(temperature=0.1))))
    await ts.execute(UpdateSession(session.id, SessionPatch(is_active=False)))
    await ts.execute(RemoveMessages(session.id, last=2))
    await ts.execute(DeleteSession(session.id))
    return [
        *(SessionCreated, MessageAdded, MessageAdded, MessageAdded, MessageUpdated),
        *(TokenMetricsUpdated, TokenMetricsUpdated, ContextWindowCritical),
        *(SessionUpdated, SessionConfigUpdated, SessionUpdated, MessageRemoved, MessageRemoved, SessionDeleted),
    ]


async def test_all_events_of_a_life(ts: Turnstream) -> None:
    async with ts.subscribe() as events:
        expected = await a_whole_life(ts, "s")
        assert [type(event) for event in await take(events, len(expected))] == expected


async def test_events_by_class(ts: Turnstream) -> None:
    async with ts.subscribe(MessageAdded) as added, ts.subscribe(SessionCreated, SessionDeleted) as ends:
        await a_whole_life(ts, "s")
        assert [event.message.role for event in await take(added, 3)] == ["user"] * 3
        assert [type(event) for event in await take(ends, 2)] == [SessionCreated, SessionDeleted]


async def test_the_class_event_means_all_types(ts: Turnstream) -> None:
    async with ts.subscribe(Event) as events, ts.subscribe(MessageAdded, Event) as also:
        expected = await a_whole_life(ts, "s")
        for each in (events, also):
            assert [type(event) for event in await take(each, len(expected))] == expected


NO_EVENTS: list[Any] = ["message-added", AddMessage, 5, None, EventMeta, [MessageAdded]]


@pytest.mark.parametrize("wrong", NO_EVENTS, ids=repr)
async def test_an_argument_that_is_not_a_class_of_events_is_refused(ts: Turnstream, wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=r"not a class of events; these are: SessionCreated, .*, and Event for all"):
        ts.subscribe(MessageAdded, wrong)
    with pytest.raises(ValueError, match="not a class of events"):
        ts.consumer("billing", wrong)


async def test_resync_required_cannot_be_asked_for(ts: Turnstream) -> None:
    """Its wire type is no event's, so nothing would ever come."""
    with pytest.raises(ValueError, match="Every subscription receives"):
        ts.subscribe(MessageAdded, ResyncRequired)  # type: ignore[type-var]


async def test_events_of_a_session(ts: Turnstream) -> None:
    async with ts.subscribe(session_id="mine") as events, ts.subscribe(MessageRemoved, session_id="mine") as removals:
        await a_whole_life(ts, "other")
        expected = await a_whole_life(ts, "mine")
        found = await take(events, len(expected))
        assert [type(event) for event in found] == expected
        assert {event.session_id for event in found} == {"mine"}
        assert [event.session_id for event in await take(removals, 2)] == ["mine"] * 2


async def test_live_events_equal_the_stored_ones(deployment: Deployment, ts: Turnstream) -> None:
    async with ts.subscribe() as events:
        expected = await a_whole_life(ts, "s")
        found = [unplaced(event) for event in await take(events, len(expected))]
    kept = [event for partition in range(4) for event in await deployment.events(partition)]
    assert found == kept


async def test_the_fold_of_the_events_is_the_session(ts: Turnstream) -> None:
    async with ts.subscribe(session_id="s") as events:
        expected = await a_whole_life(ts, "s")
        last = await ts.execute(CreateSession(CONFIG, "s"))
        last = await ts.execute(AddMessage(last.id, user_message("one")))
        found = await take(events, len(expected) + 2)
    assert fold(found) == last  # type: ignore[arg-type]
    assert fold(found[: len(expected)]) is None  # type: ignore[arg-type]


async def test_fields_of_events(ts: Turnstream) -> None:
    async with ts.subscribe() as events:
        session = await ts.execute(CreateSession(CONFIG, "s"))
        message = user_message("one")
        added_to = await ts.execute(AddMessage("s", message))
        full = await ts.execute(UpdateTokenMetrics("s", prompt_tokens=7_000))
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=1))
        created, added, metrics, critical, _, still_critical = await take(events, 6)
    assert isinstance(created, SessionCreated)
    assert (created.session, created.version, created.timestamp) == (session, 1, session.created_at)
    assert isinstance(added, MessageAdded)
    assert (added.message, added.version, added.timestamp) == (message, 2, added_to.updated_at)
    assert isinstance(metrics, TokenMetricsUpdated)
    assert metrics.metrics == full.metrics
    assert isinstance(critical, ContextWindowCritical)
    assert (critical.utilization, critical.max_context_window, critical.crossed) == (7_000 / 8_192, 8_192, True)
    assert critical.version == metrics.version
    assert isinstance(still_critical, ContextWindowCritical)
    assert still_critical.crossed is False


# ── envelopes ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_chains_of_events_are_unbroken(ts: Turnstream) -> None:
    """Per partition, type and session every event names the one before it."""
    async with ts.subscribe() as events:
        count = 0
        for name in ("a", "b", "c", "a"):
            count += len(await a_whole_life(ts, name))
        found = await take(events, count)
    sequences: dict[int, int] = {}
    of_type: dict[tuple[int, str], int] = {}
    of_session: dict[str, int] = {}
    generations: dict[int, str] = {}
    for event in found:
        meta = event.meta
        assert meta is not None
        assert meta.sequence == sequences.get(meta.partition, 0) + 1
        assert meta.previous_of_type == of_type.get((meta.partition, event.type), 0)
        assert meta.previous_of_session == (0 if isinstance(event, SessionCreated) else of_session[event.session_id])
        assert generations.setdefault(meta.partition, meta.generation) == meta.generation
        sequences[meta.partition] = of_type[meta.partition, event.type] = of_session[event.session_id] = meta.sequence
    assert len({event.meta.event_id for event in found if event.meta}) == len(found)


async def test_chains_continue_under_the_next_owner(deployment: Deployment) -> None:
    watcher = await client_of(deployment, worker=False)
    async with watcher.subscribe(session_id="s") as events:
        first = await client_of(deployment)
        await a_session(first, session_id="s")
        await first.aclose()
        second = await client_of(deployment)
        await second.execute(AddMessage("s", user_message("one")))
        created, added = [event.meta for event in await take(events, 2)]
    assert created is not None
    assert added is not None
    assert (added.previous_of_session, added.generation) == (created.sequence, created.generation)
    assert (added.sequence, added.previous_of_type) == (created.sequence + 1, 0)


async def test_an_incarnation_is_one_life(ts: Turnstream) -> None:
    async with ts.subscribe(session_id="s") as events:
        count = len(await a_whole_life(ts, "s"))
        first = await take(events, count)
        await ts.execute(CreateSession(CONFIG, "s"))
        await ts.execute(AddMessage("s", user_message("one")))
        second = await take(events, 2)
    assert len({event.incarnation for event in first}) == 1
    assert len({event.incarnation for event in second}) == 1
    assert first[0].incarnation != second[0].incarnation
    assert [event.version for event in second] == [1, 2]


async def test_events_name_their_cause(ts: Turnstream) -> None:
    trace = Trace("correlation-ü", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    async with ts.subscribe() as events:
        await ts.send(CreateSession(CONFIG, "s"), command_id="create", trace=trace)
        await ts.send(UpdateTokenMetrics("s", prompt_tokens=8_000), command_id="use")
        created, metrics, critical = [event.meta for event in await take(events, 3)]
    assert created is not None
    assert (created.command_id, created.correlation_id, created.traceparent) == (
        "create",
        trace.correlation_id,
        trace.traceparent,
    )
    for meta in (metrics, critical):
        assert meta is not None
        assert (meta.command_id, meta.correlation_id, meta.traceparent) == ("use", None, None)


# ── live, and the end of it ──────────────────────────────────────────────────────────────────────────────────────────


async def test_live_on_entry(ts: Turnstream) -> None:
    session = await a_session(ts)
    for number in range(10):
        async with ts.subscribe(MessageAdded) as events:
            await ts.send(AddMessage(session.id, user_message(str(number))))
            (event,) = await take(events, 1)
            assert event.version == number + 2


async def test_events_of_other_clients(deployment: Deployment, ts: Turnstream) -> None:
    watcher = await client_of(deployment, worker=False)
    async with watcher.subscribe(SessionCreated) as events:
        session = await a_session(ts)
        assert [event.session for event in await take(events, 1)] == [session]


async def test_a_bare_loop_is_live_from_its_first_step(ts: Turnstream) -> None:
    session = await a_session(ts)
    events = ts.subscribe(MessageAdded, session_id=session.id)
    waiting = asyncio.create_task(take(events, 1))

    async def heard() -> bool:
        await ts.execute(AddMessage(session.id, user_message("x")))
        return waiting.done()

    await wait_until(heard)
    assert (await waiting)[0].session_id == session.id
    await events.aclose()


async def test_closing_ends_the_iteration(ts: Turnstream) -> None:
    subscription = ts.subscribe()
    async with subscription:
        loop = asyncio.create_task(_collect(subscription))
        await a_session(ts)
        await asyncio.sleep(0)
        await subscription.aclose()
        await subscription.aclose()
        assert len(await asyncio.wait_for(loop, SOON)) <= 1
    assert await _collect(subscription) == []


async def _collect(events: AsyncIterator[Some]) -> list[Some]:
    return [event async for event in events]


async def test_a_closed_subscription_is_not_opened(ts: Turnstream) -> None:
    events = ts.subscribe()
    await events.aclose()
    assert await asyncio.wait_for(_collect(events), SOON) == []


async def test_a_subscription_is_closed_while_it_opens(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the client does not wait for the opening, and no task continues to listen."""
    client = await client_of(deployment, worker=False)
    asked, answered, ended = asyncio.Event(), asyncio.Event(), asyncio.all_tasks()
    read = client._backend.events.read

    async def slowly(partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        page = await read(partition, after, count, session_id)
        asked.set()
        await answered.wait()
        # One asks the closed client once more.
        return page if partition else await read(partition, after, count, session_id)

    monkeypatch.setattr(client._backend.events, "read", slowly)
    opening = asyncio.create_task(_collect(client.subscribe()))
    await asked.wait()
    await asyncio.wait_for(client.aclose(), SOON)
    answered.set()
    assert await asyncio.wait_for(opening, SOON) == []
    assert [task for task in asyncio.all_tasks() - ended if task.get_name() == "subscription"] == []


async def test_leaving_the_block_ends_the_iteration(ts: Turnstream) -> None:
    async with ts.subscribe() as events:
        pass
    assert await _collect(events) == []


async def test_closing_the_client_ends_its_subscriptions(deployment: Deployment) -> None:
    client = await client_of(deployment)
    async with client.subscribe() as events:
        waiting = asyncio.create_task(_collect(events))
        await asyncio.sleep(0)
        await client.aclose()
        assert await asyncio.wait_for(waiting, SOON) == []


async def test_subscriptions_do_not_disturb_each_other(ts: Turnstream) -> None:
    async with ts.subscribe(SessionCreated) as first:
        async with ts.subscribe(SessionCreated) as second:
            await a_session(ts)
            assert await take(first, 1) == await take(second, 1)
        session = await a_session(ts)
        assert [event.session_id for event in await take(first, 1)] == [session.id]


@pytest.mark.parametrize("overrides", [{"subscriber_buffer": 5}])
async def test_a_slow_subscriber_misses_nothing_and_holds_little(ts: Turnstream) -> None:
    session = await a_session(ts)
    async with ts.subscribe(MessageAdded) as slow, ts.subscribe(MessageAdded) as quick:
        for number in range(20):
            await ts.execute(AddMessage(session.id, user_message(str(number))))
            await take(quick, 1)
        assert len(slow._buffer) <= 5
        assert [event.version for event in await take(slow, 20)] == list(range(2, 22))
        await ts.execute(AddMessage(session.id, user_message("live again")))
        assert [event.version for event in await take(slow, 1)] == [22]


@pytest.mark.parametrize("overrides", [{"subscriber_buffer": 5}])
async def test_a_subscriber_that_keeps_up_has_room_again(ts: Turnstream) -> None:
    session = await a_session(ts)
    async with ts.subscribe(MessageAdded) as events:
        for part in range(10):
            await ts.execute(AddMessages(session.id, messages_of("abcde")))
            assert [event.version for event in await take(events, 5)] == [part + 2] * 5


async def test_payloads_that_cannot_be_read_are_skipped(
    deployment: Deployment, backend: Backend, ts: Turnstream
) -> None:
    (channel,) = backend.channels.event_channels([], "s")
    async with ts.subscribe(session_id="s") as events:
        for payload in (b"", b"\xff\x00", b"[]", b"{}", b'{"type":"later-event"}', b'"x"', b"[" * 100_000):
            await deployment.publish(channel, payload)
        await a_session(ts, session_id="s")
        assert [type(event) for event in await take(events, 1)] == [SessionCreated]
