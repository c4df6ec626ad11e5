"""The start of a subscription, the positions to resume from, and the report of lost history (design §6)."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.contract.chats import CONFIG, a_session, id_in, messages_of
from tests.contract.deployments import Deployment, client_of
from tests.contract.hearing import take, take_one, take_resync, unplaced
from tests.contract.redis_deployments import RedisDeployment
from tests.waiting import SOON, time_passes, wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    CreateSession,
    DeleteSession,
    Position,
    ResyncRequired,
    Turnstream,
    Unavailable,
    user_message,
)
from turnstream.client.subscriptions import feed
from turnstream.domain.models import partition_of
from turnstream.domain.position import LogPosition
from turnstream.events import Event, MessageAdded, SessionCreated, SessionDeleted, TokenMetricsUpdated
from turnstream.ports import Backend, EventPage

on_redis = pytest.mark.parametrize("deployment", ["fakeredis", "embedded", "cluster"], indirect=True)
"""For histories that change: in memory there is only one."""
one_partition = pytest.mark.parametrize("overrides", [{"partitions": 1}])


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 2}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often whether anything was missed."""
    monkeypatch.setattr(feed, "HEAD_CHECK_INTERVAL_S", 0.02)


async def chats(ts: Turnstream, *session_ids: str) -> None:
    """Let six events happen to each session."""
    for session_id in session_ids:
        await a_session(ts, *"abcd", session_id=session_id)
        await ts.execute(DeleteSession(session_id))


def in_stream_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: (event.meta.partition, event.meta.sequence) if event.meta else (0, 0))


def position_of(event: Event) -> Position:
    """Return the position of an event, as a program reads it that stored it as text."""
    assert event.meta
    assert event.meta.position
    return Position.parse(str(event.meta.position))


# ── where it starts ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_from_the_beginning_and_on(deployment: Deployment, ts: Turnstream) -> None:
    await chats(ts, "a", "b", "c")
    async with ts.subscribe(start="beginning") as events:
        past = await take(events, 18)
        await chats(ts, "d")
        live = await take(events, 6)
    stored = [event for partition in range(2) for event in await deployment.events(partition)]
    assert [unplaced(event) for event in in_stream_order([*past, *live])] == in_stream_order(stored)
    assert [event.session_id for event in live] == ["d"] * 6


async def test_from_now(ts: Turnstream) -> None:
    await chats(ts, "a")
    async with ts.subscribe(start="now") as events:
        await a_session(ts, session_id="b")
        assert (await take_one(events)).session_id == "b"


@one_partition
async def test_each_event_has_the_position_to_resume_from(ts: Turnstream) -> None:
    await chats(ts, "a", "b")
    async with ts.subscribe(start="beginning") as events:
        found = await take(events, 12)
        await chats(ts, "c")
        found += await take(events, 6)
        for number, event in enumerate(found):
            async with ts.subscribe(start=position_of(event)) as behind:
                assert [e.meta and e.meta.sequence for e in await take(behind, 17 - number)] == list(
                    range(number + 2, 19)
                )
        assert events.position == position_of(found[-1])


async def test_in_the_middle_of_several_partitions(ts: Turnstream) -> None:
    """The events before a stored position and those after it are together all events, each once."""
    await chats(ts, *(id_in(number % 2, 2) for number in range(6)))
    async with ts.subscribe(start="beginning") as events:
        everything = await take(events, 36)
    for stop in (1, 7, 18, 35):
        async with ts.subscribe(start="beginning") as events:
            before = await take(events, stop)
        async with ts.subscribe(start=position_of(before[-1])) as events:
            behind = await take(events, 36 - stop)
        ids = [event.meta.event_id for event in (*before, *behind) if event.meta]
        assert sorted(ids) == sorted(event.meta.event_id for event in everything if event.meta)


async def test_types_and_sessions_from_a_position(ts: Turnstream) -> None:
    await chats(ts, "a", "b")
    async with ts.subscribe(SessionCreated, SessionDeleted, start="beginning") as events:
        assert len(await take(events, 4)) == 4
    async with ts.subscribe(MessageAdded, session_id="b", start="beginning") as events:
        first, second, *_ = added = await take(events, 4)
    assert {event.session_id for event in added} == {"b"}
    assert first.meta
    assert first.meta.position
    assert [mark is not None for mark in first.meta.position.log_positions] == [
        number == first.meta.partition for number in (0, 1)
    ]
    async with ts.subscribe(MessageAdded, session_id="b", start=position_of(first)) as events:
        assert unplaced(await take_one(events)) == unplaced(second)


async def test_a_position_of_all_serves_one_session(ts: Turnstream) -> None:
    everything = await ts.position()
    await chats(ts, "a", "b")
    async with ts.subscribe(session_id="b", start=everything) as events:
        assert {event.session_id for event in await take(events, 6)} == {"b"}


# ── positions that do not fit ────────────────────────────────────────────────────────────────────────────────────────


async def test_positions_that_do_not_fit(ts: Turnstream) -> None:
    one, other = id_in(0, 2), id_in(1, 2)
    await chats(ts, one)
    async with ts.subscribe(session_id=one, start="beginning") as events:
        of_one = position_of(await take_one(events))
    with pytest.raises(ValueError, match="of 1 partitions, the deployment has 2"):
        ts.subscribe(start=Position.parse("g:1"))
    for session_id in (None, other):
        with pytest.raises(ValueError, match="does not include partition 1"):
            ts.subscribe(session_id=session_id, start=of_one)
    with pytest.raises(ValueError, match="'now', 'beginning' or a Position, not 'yesterday'"):
        ts.subscribe(start="yesterday")  # type: ignore[call-overload]


@pytest.mark.parametrize("text", ["x", "g:", "g:-1", "g:1.5", "g:1,x", "g:²"])
def test_text_that_is_not_a_position(text: str) -> None:
    with pytest.raises(ValueError, match="Not a position"):
        Position.parse(text)


def test_text_of_positions() -> None:
    for text in ("g:0", "g:1,h:20", ",h:3", ":0,g:7"):
        assert str(Position.parse(text)) == text


def test_a_log_position_is_encoded_as_a_pair() -> None:
    position = LogPosition("g", 5)
    assert msgspec.json.encode(Position((position, None))) == b'{"log_positions":[["g",5],null]}'
    assert msgspec.json.decode(b'["g",5]', type=LogPosition) == position


# ── how far it is ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("often")
async def test_the_position_advances_past_unwanted_events(ts: Turnstream) -> None:
    for types, session_id in (((SessionDeleted,), None), ((SessionDeleted, SessionCreated), None), ((), "quiet")):
        events = ts.subscribe(*types, session_id=session_id)
        assert events.position is None
        async with events:
            await a_session(ts, "one")
            await chats(ts, "busy") if session_id else await ts.execute(CreateSession(CONFIG))
            seen = [] if session_id else await take(events, types.count(SessionCreated) * 2)
            expected = await ts.position()

            def reached(events: Any = events, expected: Position = expected) -> bool:  # noqa: ANN401 - of any events
                pairs = zip(events.position.log_positions, expected.log_positions, strict=True)
                return all(mark in (None, head) for mark, head in pairs)

            await wait_until(reached)
            assert len(seen) == types.count(SessionCreated) * 2


async def test_positions_by_time(ts: Turnstream) -> None:
    await chats(ts, "a")
    await time_passes()
    between = datetime.now(UTC)
    await time_passes()
    await chats(ts, "b")
    async with ts.subscribe(start=await ts.position(since=between)) as events:
        assert {event.session_id for event in await take(events, 6)} == {"b"}
    long_ago = await ts.position(since=between - timedelta(days=1))
    assert sum(mark.sequence for mark in long_ago.log_positions if mark) == 0
    assert await ts.position(since=datetime.min.replace(tzinfo=UTC)) == long_ago
    assert await ts.position(since=between + timedelta(days=1)) == await ts.position()


@one_partition
async def test_positions_by_time_before_the_oldest_event(deployment: Deployment, ts: Turnstream) -> None:
    await chats(ts, "a", "b")
    await deployment.trim(0, 8)
    (mark,) = (await ts.position(since=datetime.now(UTC) - timedelta(days=1))).log_positions
    assert mark
    assert mark.sequence == 7
    await deployment.trim(0, 99)
    assert await ts.position(since=datetime.now(UTC) - timedelta(days=1)) == await ts.position()


# ── what is gone ─────────────────────────────────────────────────────────────────────────────────────────────────────


@one_partition
async def test_trimmed_events_are_reported_and_the_subscription_continues(
    deployment: Deployment, ts: Turnstream
) -> None:
    await chats(ts, "a", "b")
    async with ts.subscribe(start="beginning") as events:
        second = (await take(events, 2))[1]
    await deployment.trim(0, 10)
    async with ts.subscribe(start=position_of(second)) as events:
        gone = await take_resync(events)
        assert (gone.reason, gone.lost, gone.partition, gone.session_id) == ("retention", 7, 0, None)
        assert (gone.seen.sequence, gone.resumed.sequence) == (2, 9)
        assert [e.meta and e.meta.sequence for e in await take(events, 3)] == [10, 11, 12]
        await ts.execute(CreateSession(CONFIG, "c"))
        assert (await take_one(events)).session_id == "c"
    async with ts.subscribe(start=gone.position) as events:
        assert [e.meta and e.meta.sequence for e in await take(events, 3)] == [10, 11, 12]


@one_partition
async def test_trimmed_events_that_are_unwanted_are_not_reported(deployment: Deployment, ts: Turnstream) -> None:
    await a_session(ts, session_id="b")
    start = await ts.position()
    await chats(ts, "a")
    await deployment.trim(0, 99)
    for events in (ts.subscribe(session_id="b", start=start), ts.subscribe(SessionCreated, start="beginning")):
        async with events:
            if events._feed._wanted.session_id:
                await ts.execute(DeleteSession("b"))
            else:
                await a_session(ts, session_id="d")
            assert (await take_one(events)).session_id in {"b", "d"}


@one_partition
@pytest.mark.usefixtures("often")
@on_redis
async def test_a_new_generation_rolls_back_delivered_events(deployment: Deployment) -> None:
    assert isinstance(deployment, RedisDeployment)
    first = await client_of(deployment)
    await chats(first, "a")
    (mark,) = (await first.position()).log_positions
    assert mark
    await first.aclose()
    await deployment.call("HSET", deployment.keys.partitions[0].partition, "replicationId", "another")
    second = await client_of(deployment)
    await chats(second, "b")
    seen_more = Position((LogPosition(mark.generation, mark.sequence + 3),))
    async with second.subscribe(start=seen_more) as events:
        gone = await take_resync(events)
        assert (gone.reason, gone.lost) == ("failover", 3)
        assert gone.seen == seen_more.log_positions[0]
        assert gone.resumed.generation != mark.generation
        assert [event.session_id for event in await take(events, 6)] == ["b"] * 6
    async with second.subscribe(start=Position((mark,))) as events:
        assert [event.session_id for event in await take(events, 6)] == ["b"] * 6


@one_partition
@pytest.mark.usefixtures("often")
@on_redis
async def test_a_live_subscription_continues_in_another_generation(deployment: Deployment) -> None:
    assert isinstance(deployment, RedisDeployment)
    watcher = await client_of(deployment, worker=False)
    async with watcher.subscribe() as events:
        first = await client_of(deployment)
        await chats(first, "a")
        before = await take(events, 6)
        await first.aclose()
        await deployment.call("HSET", deployment.keys.partitions[0].partition, "replicationId", "another")
        await chats(await client_of(deployment), "b")
        behind = await take(events, 6)
    assert {event.meta.generation for event in before if event.meta}.isdisjoint(
        event.meta.generation for event in behind if event.meta
    )


@one_partition
@pytest.mark.usefixtures("often")
@on_redis
async def test_everything_is_flushed(deployment: Deployment, ts: Turnstream) -> None:
    assert isinstance(deployment, RedisDeployment)
    async with ts.subscribe() as events:
        await chats(ts, "a")
        await take(events, 6)
        for name in await deployment.names():
            await deployment.call("UNLINK", name)
        gone = await take_resync(events)
        assert (gone.reason, gone.lost, gone.resumed.sequence) == ("reset", None, 0)
        created = asyncio.create_task(_created(ts))
        assert (await take_one(events)).version == 1
        await created


async def _created(ts: Turnstream) -> None:
    while await ts.sessions.get("b") is None:
        await ts.dispatch(CreateSession(CONFIG, "b"), timeout=1.0)


@one_partition
@pytest.mark.usefixtures("often")
@on_redis
async def test_events_that_are_not_durable_are_not_delivered(deployment: Deployment) -> None:
    """Whatever the filter, and however often it looks: not even that there is something."""
    assert isinstance(deployment, RedisDeployment)
    ts = await client_of(deployment)
    await a_session(ts, *"ab", session_id="s")
    await ts.aclose()
    await deployment.call("HSET", deployment.keys.partitions[0].partition, "stable", 1)
    watcher = await client_of(deployment, worker=False)
    filters: list[Any] = [
        watcher.subscribe(start="beginning"),
        watcher.subscribe(SessionCreated, MessageAdded, start="beginning"),
        watcher.subscribe(session_id="s", start="beginning"),
    ]
    for events in filters:
        async with events:
            assert isinstance(await take_one(events), SessionCreated)
            for _ in range(10):
                await asyncio.sleep(0.01)
                assert not events._buffer
                assert events.position.log_positions[0].sequence == 1
            await deployment.call("HSET", deployment.keys.partitions[0].partition, "stable", 3)
            assert [type(event) for event in await take(events, 2)] == [MessageAdded] * 2
        await deployment.call("HSET", deployment.keys.partitions[0].partition, "stable", 1)


# ── reads that fail ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_late_page_is_dropped_after_another_read_has_failed(
    deployment: Deployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the same events were read again."""
    failing, late = id_in(0, 2), id_in(1, 2)
    await chats(ts, failing, late)
    watcher = await client_of(deployment, worker=False)
    read, reads, given = watcher._backend.events.read, list[int](), asyncio.Event()

    async def hurt(partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        page = await read(partition, after, count, session_id)
        if count:
            reads.append(partition)
            if partition == 1 and reads.count(1) == 1:
                await given.wait()
            if partition == 0 and reads.count(0) == 1:
                await wait_until(lambda: 1 in reads)
                raise Unavailable("just once")
        return page

    monkeypatch.setattr(watcher._backend.events, "read", hurt)
    async with watcher.subscribe(start="beginning") as events:
        found = await take(events, 12)
        given.set()
        # Had an event come twice, it would come ahead of these.
        await chats(ts, failing, late)
        found += await take(events, 12)
    assert len({event.meta.event_id for event in found if event.meta}) == 24


# ── slow consumers ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("overrides", [{"partitions": 2, "subscriber_buffer": 20}])
async def test_a_slow_consumer_holds_no_more_than_its_buffer(ts: Turnstream) -> None:
    names = [id_in(number, 2) for number in (0, 1)]
    for name in names:
        await a_session(ts, session_id=name)
    most = 0
    async with ts.subscribe(MessageAdded, SessionDeleted) as events:
        publishing = asyncio.create_task(_publish(ts, names, 30))
        found: list[Event] = []
        while len(found) < 300:
            if not publishing.done():
                await asyncio.sleep(0)
            found += await take(events, 1)
            most = max(most, len(events._buffer))
        await publishing
    assert most <= 20
    for name in names:
        versions = [event.version for event in found if event.session_id == name]
        assert versions == [version for version in range(2, 32) for _ in range(5)]


async def _publish(ts: Turnstream, names: Iterable[str], rounds: int, text: str = "x") -> None:
    for _ in range(rounds):
        for name in names:
            await ts.execute(AddMessages(name, messages_of([text] * 5)))


@pytest.mark.parametrize("deployment", ["memory", "embedded"], indirect=True)
@pytest.mark.parametrize("overrides", [{"partitions": 1, "subscriber_buffer": 4}])
async def test_a_slow_consumer_of_large_events(ts: Turnstream) -> None:
    await a_session(ts, session_id="s")
    async with ts.subscribe(MessageAdded) as events:
        await _publish(ts, ["s"], 6, "x" * 200_000)
        assert len(events._buffer) <= 4
        assert [event.version for event in await take(events, 30)] == [v for v in range(2, 8) for _ in range(5)]


@pytest.mark.parametrize("overrides", [{"partitions": 1, "subscriber_buffer_bytes": 8_000}])
async def test_a_slow_consumer_holds_few_large_events(ts: Turnstream) -> None:
    await a_session(ts, session_id="s")
    async with ts.subscribe(MessageAdded) as events:
        await wait_until(lambda: events._feed._detectors[0].is_live)
        await _publish(ts, ["s"], 6, "x" * 3_000)
        await events.ping()
        await wait_until(lambda: len(events._buffer) > 0)
        assert len(events._buffer) <= 3
        assert [event.version for event in await take(events, 30)] == [v for v in range(2, 8) for _ in range(5)]
        await _publish(ts, ["s"], 1)
        assert [event.version for event in await take(events, 5)] == [8] * 5


async def test_a_filter_costs_no_reads_of_the_stream(
    deployment: Deployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live events of a busy partition among which few were asked for are followed without the stream."""
    watcher = await client_of(deployment, worker=False)
    async with watcher.subscribe(SessionCreated) as rare, watcher.subscribe(SessionCreated, MessageAdded) as some:
        await a_session(ts, session_id="first")
        await take(rare, 1)
        await take(some, 1)
        reads = counted_reads(watcher._backend, monkeypatch)
        for number in range(20):
            await ts.execute(AddMessage("first", user_message(str(number))))
        await a_session(ts, session_id="last")
        assert (await take_one(rare)).session_id == "last"
        await take(some, 21)
    assert len([count for count in reads if count]) <= 2, "but for a check, or a slow machine, there are none"


def counted_reads(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on note how many events are asked for with each read."""
    reads: list[int] = []
    read = backend.events.read

    async def counted(partition: int, after: int, count: int, session_id: str | None = None) -> Any:  # noqa: ANN401
        reads.append(count)
        return await read(partition, after, count, session_id)

    monkeypatch.setattr(backend.events, "read", counted)
    return reads


async def test_a_gap_has_its_own_class(ts: Turnstream) -> None:
    """A consumer tells the two apart by `isinstance`, whatever it asked for."""
    async with ts.subscribe(start=Position((LogPosition("elsewhere", 5),) * 2)) as events:
        told: AsyncIterator[Event | ResyncRequired] = events
        first = [await take_resync(told) for _ in range(2)]
        assert {gone.partition for gone in first} == {0, 1}
        assert {gone.reason for gone in first} == {"reset"}
        await a_session(ts, session_id="s")
        event = await asyncio.wait_for(anext(told), SOON)
        assert isinstance(event, SessionCreated)
        assert event.meta
        assert event.meta.partition == partition_of("s", 2)


async def test_iteration_up_to_a_position_ends_there(ts: Turnstream) -> None:
    sessions = [id_in(partition, 2) for partition in (0, 1)]
    await chats(ts, *sessions)
    end = await ts.position()
    async with asyncio.timeout(SOON), ts.subscribe(start="beginning") as events:
        await a_session(ts, session_id=sessions[0])
        seen = [event async for event in events.until(end)]
    for session_id in sessions:
        own = [type(event) for event in seen if isinstance(event, Event) and event.session_id == session_id]
        assert (len(own), own[0], own[-1]) == (6, SessionCreated, SessionDeleted)


@pytest.mark.parametrize("session_id", ["watched", None])
async def test_it_ends_if_no_event_there_is_wanted(ts: Turnstream, session_id: str | None) -> None:
    await chats(ts, "watched", "other")
    await ts.execute(CreateSession(CONFIG, "another"))
    end = await ts.position()
    # Not by the next check of the heads, seconds later.
    async with (
        asyncio.timeout(feed.HEAD_CHECK_INTERVAL_S),
        ts.subscribe(TokenMetricsUpdated, session_id=session_id, start="beginning") as events,
    ):
        assert [event async for event in events.until(end)] == []


async def test_an_end_that_is_still_to_come(ts: Turnstream, often: None) -> None:
    await chats(ts, "s")
    async with asyncio.timeout(SOON), ts.subscribe(SessionDeleted, start="now") as events:
        await chats(ts, "s")
        await ts.execute(CreateSession(CONFIG, "s"))
        seen = [event async for event in events.until(await ts.position())]
    assert [type(event) for event in seen] == [SessionDeleted]


async def test_it_ends_when_the_subscription_is_closed(ts: Turnstream) -> None:
    subscription = ts.subscribe(start="now")
    async with subscription as events:
        iteration = aiter(events.until(Position((LogPosition("", 1), LogPosition("", 1)))))
        step = asyncio.ensure_future(anext(iteration, None))
        await asyncio.sleep(0)
    assert await step is None
