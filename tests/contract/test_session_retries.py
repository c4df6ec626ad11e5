"""Sessions that a durable subscription retries separately: in order, next to the others, however the owner ends."""

import asyncio
from collections import Counter
from contextlib import suppress
from functools import partial
from random import Random

import pytest
from tests.contract.chats import a_session, id_in
from tests.contract.deployments import Deployment, client_of, opened
from tests.contract.members import PARTITIONS, Handler, killed, running
from tests.waiting import SOON, wait_until

from turnstream import (
    AddMessage,
    NotHandled,
    ResyncRequired,
    RetryPolicy,
    Turnstream,
    UpdateTokenMetrics,
    backoff,
    user_message,
)
from turnstream.admin import ParkedSession
from turnstream.client.consumers import partition_consumer, session_retries
from turnstream.client.consumers.handler_calls import HandlerCalls, is_retry
from turnstream.client.subscriptions.gap_detector import EventFilter
from turnstream.domain.position import LogPosition
from turnstream.errors import SubscriptionNotFound
from turnstream.events import Event
from turnstream.ports import Backend, SubscriptionState

NAME = "billing"
LONG = RetryPolicy(attempts=None, seconds=86_400.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave next to no time between two attempts."""
    monkeypatch.setattr(backoff, "LONGEST", 0.002)


async def of(ts: Turnstream, session_id: str) -> ParkedSession | None:
    """Return a session that is retried or parked; there is none before the consumer has joined its subscription."""
    try:
        listed = [each async for each in ts.admin.consumers.parked(NAME)]
    except SubscriptionNotFound:
        return None
    return next((each for each in listed if each.session_id == session_id), None)


async def is_tried(ts: Turnstream, session_id: str, events: int = 1) -> bool:
    """Return whether a session is retried, with so many events waiting."""
    session = await of(ts, session_id)
    return session is not None and not session.is_parked and session.events == events


async def is_parked(ts: Turnstream, session_id: str, events: int = 1) -> bool:
    session = await of(ts, session_id)
    return session is not None and session.is_parked and session.events == events


async def is_gone(ts: Turnstream, session_id: str) -> bool:
    return await of(ts, session_id) is None


async def test_five_failing_sessions_do_not_delay_others_of_their_partition(ts: Turnstream) -> None:
    ids = [id_in(0, PARTITIONS) for _ in range(10)]
    bad, good = ids[:5], ids[5:]
    handler = Handler()
    handler.refused = set(bad)
    async with running(ts.consumer(NAME, start="beginning", attempts=LONG), handler):
        for session_id in ids:
            await a_session(ts, session_id=session_id)
        for number in range(3):
            for session_id in ids:
                await ts.execute(UpdateTokenMetrics(session_id, prompt_tokens=number))
        await wait_until(lambda: all(handler.versions(session_id) == [1, 2, 3, 4] for session_id in good))
        for session_id in bad:
            await wait_until(partial(is_tried, ts, session_id, 4))
        # The checkpoint is after all events, including those that wait.
        await wait_until(lambda: _lag_is(ts, 0))
        assert not any(handler.versions(session_id) for session_id in bad)
        (info,) = [each async for each in ts.admin.consumers.list()]
        assert (info.parked_sessions, info.parked_events, info.retried_sessions, info.retried_events) == (0, 0, 5, 20)
        handler.refused.clear()
        await wait_until(lambda: all(handler.versions(session_id) == [1, 2, 3, 4] for session_id in bad))
        await wait_until(lambda: _nothing_waits(ts))


async def _lag_is(ts: Turnstream, lag: int) -> bool:
    return sum([each.behind async for each in ts.admin.consumers.lag(NAME)]) == lag


async def _nothing_waits(ts: Turnstream) -> bool:
    return [each async for each in ts.admin.consumers.parked(NAME)] == []


async def test_a_waiting_session_shows_its_next_try(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    slow = _SlowRetries(attempts=3, longest_pause=3600.0)
    async with running(ts.consumer(NAME, start="beginning", attempts=slow), handler):
        await a_session(ts, session_id="s")
        await wait_until(lambda: is_tried(ts, "s"))
    session = await of(ts, "s")
    assert session
    assert session.next_try
    assert (session.next_try - session.since).total_seconds() == 3600
    assert (session.reason, session.attempts, session.is_parked) == ("ConnectionError", 1, False)


async def test_an_operator_need_not_wait_for_the_next_try(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s", "t"}
    # Half an hour at least after the first failure.
    slow = _SlowRetries(attempts=5, longest_pause=3600.0)
    async with running(ts.consumer(NAME, start="beginning", attempts=slow), handler):
        for session_id in ("s", "t"):
            await a_session(ts, session_id=session_id)
            await wait_until(partial(is_tried, ts, session_id))
        assert await ts.admin.consumers.redrive(NAME, "s") == 1
        handler.refused.clear()
        assert await ts.admin.consumers.redrive(NAME, "s") == 0
        assert await ts.admin.consumers.discard(NAME, "t") == 0
        for session_id in ("s", "t"):
            await ts.execute(UpdateTokenMetrics(session_id, prompt_tokens=1))
        await wait_until(lambda: (handler.versions("s"), handler.versions("t")) == ([1, 2], [2]))
        assert handler.refusals == {"s": 2, "t": 1}


class _SlowRetries(RetryPolicy, frozen=True, kw_only=True):
    def pause(self, attempts: int) -> float:
        return 3600.0


async def test_limits_by_time_count_from_the_first_failure_of_an_event(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    soon_over = RetryPolicy(attempts=None, seconds=0.2, longest_pause=0.01)
    async with running(ts.consumer(NAME, start="beginning", attempts=soon_over), handler):
        await a_session(ts, session_id="s")
        await wait_until(lambda: is_parked(ts, "s"))
        assert handler.refusals["s"] > 2


@pytest.mark.parametrize("overrides", [{"parked_events": 1}])
async def test_an_event_without_room_waits_in_its_place_and_is_lost_in_the_end(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "LONGEST", 0.001)
    ts = await client_of(deployment)
    first, second, good = (id_in(0, PARTITIONS) for _ in range(3))
    handler = Handler()
    handler.refused = {first, second}
    async with running(ts.consumer(NAME, start="beginning", attempts=LONG), handler):
        await a_session(ts, session_id=first)
        await wait_until(partial(is_tried, ts, first))
        await a_session(ts, session_id=second)
        await a_session(ts, session_id=good)
        await wait_until(lambda: handler.versions(good) == [1])
        assert handler.refusals[second] >= 10
        session = await of(ts, second)
        assert session
        assert (session.is_parked, session.events, session.lost) == (True, 0, 1)
        handler.refused.clear()
        await wait_until(partial(is_gone, ts, first))
        assert await ts.admin.consumers.redrive(NAME, second) == 0
    assert [(resync.session_id, resync.lost) for resync in handler.resyncs] == [(second, 1)]


@pytest.mark.parametrize("overrides", [{"parked_events": 2}])
async def test_events_lost_while_a_session_was_retried_are_reported_after_it(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    async with running(ts.consumer(NAME, start="beginning", attempts=LONG), handler):
        await a_session(ts, session_id="s")
        for number in range(3):
            await ts.execute(UpdateTokenMetrics("s", prompt_tokens=number))
        await wait_until(lambda: _lag_is(ts, 0))
        handler.refused.clear()
        await wait_until(lambda: is_gone(ts, "s"))
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=9))
        await wait_until(lambda: handler.versions("s") == [1, 2, 5])
    (resync,) = handler.resyncs
    assert (resync.reason, resync.lost, resync.session_id) == ("parking", 2, "s")


@pytest.mark.usefixtures("quick")
async def test_failures_that_do_not_count_do_not_delay_other_retries(
    ts: Turnstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_retries, "POLL_INTERVAL_S", 0.01)
    ids = [id_in(0, PARTITIONS) for _ in range(9)]
    held = set(ids[:-1])
    calls, seen = Counter[str](), list[str]()

    async def holds(event: Event | ResyncRequired) -> None:
        assert isinstance(event, Event)
        calls[event.session_id] += 1
        if calls[event.session_id] == 1:
            raise ConnectionError
        if event.session_id in held:
            raise NotHandled("not now", counts=False)
        seen.append(event.session_id)

    async with running(ts.consumer(NAME, start="beginning", attempts=2), holds):
        for session_id in ids:
            await a_session(ts, session_id=session_id)
        await wait_until(lambda: ids[-1] in seen)
        await wait_until(lambda: all(calls[session_id] > 3 for session_id in held))
        assert not any([session.is_parked async for session in ts.admin.consumers.parked(NAME)])
        held.clear()
        await wait_until(lambda: sorted(seen) == sorted(ids))


async def test_a_handler_can_recognise_a_retry(ts: Turnstream) -> None:
    told = list[tuple[int, bool]]()

    async def fails_once(event: Event | ResyncRequired) -> None:
        assert isinstance(event, Event)
        told.append((event.version, is_retry()))
        if len(told) == 1:
            raise ConnectionError

    async with running(ts.consumer(NAME, start="beginning"), fails_once):
        await a_session(ts, session_id="s")
        await wait_until(lambda: len(told) == 2)
        await wait_until(lambda: _nothing_waits(ts))
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=1))
        await wait_until(lambda: told == [(1, False), (1, True), (2, False)])


async def test_parked_sessions_are_tried_after_a_recovery(ts: Turnstream) -> None:
    ids = [id_in(number % PARTITIONS, PARTITIONS) for number in range(12)]
    handler = Handler()
    handler.refused = set(ids)
    retries = RetryPolicy(attempts=1, parked_every=3600.0)
    subscription = ts.consumer(NAME, start="beginning", attempts=retries)
    async with running(subscription, handler):
        for session_id in ids:
            await a_session(ts, session_id=session_id)
            # A success in between, because otherwise each session would get twice as many attempts as the last.
            subscription._member.owned[0]._calls.outages.succeeded()  # type: ignore[union-attr]
            await wait_until(partial(is_parked, ts, session_id))
        assert all([session.next_try async for session in ts.admin.consumers.parked(NAME)])
        # Sessions that fail again stay parked and do not delay the others.
        poisoned = ids[0]
        handler.refused = {poisoned}
        subscription.hasten()
        await wait_until(lambda: all(handler.versions(session_id) == [1] for session_id in ids[1:]))
        await wait_until(partial(is_parked, ts, poisoned))


async def test_a_parked_session_is_tried_periodically(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    retries = RetryPolicy(attempts=1, parked_every=0.05)
    async with running(ts.consumer(NAME, start="beginning", attempts=retries), handler):
        await a_session(ts, session_id="s")
        await wait_until(lambda: handler.refusals["s"] > 3)
        assert await is_parked(ts, "s")
        handler.refused.clear()
        await wait_until(lambda: handler.versions("s") == [1])


# ── owners that end ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_next_consumer_continues_the_retries(ts: Turnstream) -> None:
    handler = Handler()
    handler.refused = {"s"}
    retries = RetryPolicy(attempts=6)
    async with running(ts.consumer(NAME, start="beginning", attempts=retries), handler):
        await a_session(ts, session_id="s")
        await wait_until(lambda: handler.refusals["s"] >= 3)
    before = await of(ts, "s")
    assert before
    async with running(ts.consumer(NAME, attempts=retries), handler):
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=1))
        await wait_until(lambda: is_parked(ts, "s", 2))
    after = await of(ts, "s")
    assert after
    # The attempts of both are counted, and it waits since the first failure.
    assert (handler.refusals["s"], after.attempts, after.since) == (6, 6, before.since)
    async with running(ts.consumer(NAME, attempts=retries), handler):
        handler.refused.clear()
        assert await ts.admin.consumers.redrive(NAME, "s") == 0
    assert handler.versions("s") == [1, 2]


@pytest.mark.parametrize(
    "deployment", ["fakeredis", "embedded", "cluster"], indirect=True
)  # in memory all die together
@pytest.mark.parametrize("overrides", [{"lease": 0.5}])
async def test_the_next_consumer_continues_the_retries_of_a_killed_one(deployment: Deployment, ts: Turnstream) -> None:
    ids = [id_in(number % PARTITIONS, PARTITIONS) for number in range(8)]
    first, second = Handler(), Handler()
    first.refused = set(ids[::2])
    other = await client_of(deployment, worker=False)
    dying = other.consumer(NAME, start="beginning", attempts=LONG)
    task = asyncio.create_task(dying.run(first))
    for session_id in ids:
        await a_session(ts, session_id=session_id)
        await ts.execute(UpdateTokenMetrics(session_id, prompt_tokens=1))
    for session_id in first.refused:
        await wait_until(partial(is_tried, ts, session_id, 2))
    await killed(dying, task)
    async with running(ts.consumer(NAME, attempts=LONG), second):
        await wait_until(lambda: all(second.versions(session_id) == [1, 2] for session_id in first.refused))
        await wait_until(lambda: _nothing_waits(ts))


class Owners:
    """A sequence of owners of partition 0, ended in different ways; chance decides which events are handled."""

    def __init__(self, backend: Backend, chance: Random) -> None:
        self.seen: list[tuple[str, int]] = []
        self.refused: set[str] = set()
        self.refusals: list[int] = []
        self._backend = backend
        self._chance = chance
        self._handling: set[str] = set()
        self._owners = 0

    async def __call__(self, event: Event) -> None:
        assert event.session_id not in self._handling, "two events of a session at the same time"
        self._handling.add(event.session_id)
        try:
            for _ in range(self._chance.randrange(4)):
                await asyncio.sleep(0)
            if event.session_id in self.refused or self._chance.random() < 0.1:
                self.refusals.append(event.version)
                raise NotHandled("not now", counts=self._chance.random() < 0.8)
            self.seen.append((event.session_id, event.version))
            await asyncio.sleep(0)
        finally:
            self._handling.discard(event.session_id)

    async def begin(self) -> None:
        self._owners += 1
        self._member = f"owner-{self._owners}"
        membership = self._backend.subscriptions.membership(NAME)
        await membership.beat(self._member)
        state = await membership.take(0, self._member)
        assert state
        self._state: SubscriptionState = state
        self.consuming = partition_consumer.PartitionConsumer(
            partition_consumer.ConsumerContext(
                name=NAME,
                partitions=PARTITIONS,
                wanted=EventFilter((), None),
                events=self._backend.events,
                subscriptions=self._backend.subscriptions,
                calls=HandlerCalls(self, RetryPolicy(attempts=10_000)),
                start_position=self._beginning,
                handled={},
            ),
            state,
        )
        self._task = asyncio.create_task(self.consuming.run())

    async def _beginning(self, partition: int) -> LogPosition:
        return LogPosition((await self._backend.events.read(partition, 0, 0)).generation, 0)

    async def end(self, *, killed: bool) -> None:
        if killed:
            self._task.cancel()
        else:
            self.consuming.stop()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(self._task, SOON)
        membership = self._backend.subscriptions.membership(NAME)
        if not killed:
            await membership.release([self._state])
        await membership.depart(self._member)


@pytest.mark.usefixtures("quick")
async def test_a_session_that_fails_again_while_it_leaves_stays(
    deployment: Deployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply that the session has left may arrive after it has failed again."""
    backend = await opened(deployment)
    owners = Owners(backend, Random(0))
    unpark, has_left, may_reply = backend.subscriptions.unpark, asyncio.Event(), asyncio.Event()

    async def late(name: str, state: SubscriptionState, session_id: str, sequence: int, lost: int | None = None) -> int:
        left = await unpark(name, state, session_id, sequence, lost)
        has_left.set()
        await may_reply.wait()
        return left

    monkeypatch.setattr(backend.subscriptions, "unpark", late)
    session_id = id_in(0, PARTITIONS)
    owners.refused = {session_id}
    await owners.begin()
    await a_session(ts, session_id=session_id)
    await wait_until(partial(is_tried, ts, session_id))
    owners.refused.clear()
    await wait_until(has_left.is_set)
    owners.refused = {session_id}
    await ts.execute(UpdateTokenMetrics(session_id, prompt_tokens=1))
    await wait_until(partial(is_tried, ts, session_id))
    may_reply.set()
    await wait_until(lambda: len(owners.refusals) > 5)
    await ts.execute(UpdateTokenMetrics(session_id, prompt_tokens=2))
    await wait_until(partial(is_tried, ts, session_id, 2))
    owners.refused.clear()
    await wait_until(lambda: owners.seen == [(session_id, version) for version in (1, 2, 3)])
    await owners.end(killed=False)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", range(4))
async def test_each_session_is_handled_in_order_whatever_happens(
    deployment: Deployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(partition_consumer, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(session_retries, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(session_retries, "EVENTS_PER_TURN", 2)
    chance = Random(seed)
    owners = Owners(await opened(deployment), chance)
    ids = [id_in(0, PARTITIONS) for _ in range(5)]
    versions = Counter[str]()
    for session_id in ids:
        versions[session_id] = (await a_session(ts, session_id=session_id)).version
    await owners.begin()
    for _ in range(60):
        session_id = chance.choice(ids)
        match chance.choice(
            ("happens", "happens", "happens", "refuses", "takes", "killed", "stopped", "asks", "waits")
        ):
            case "happens":
                versions[session_id] = (await ts.execute(AddMessage(session_id, user_message("more")))).version
            case "refuses":
                owners.refused.add(session_id)
            case "takes":
                owners.refused.discard(session_id)
            case "killed" | "stopped" as how:
                await owners.end(killed=how == "killed")
                await owners.begin()
            case "asks":
                await owners._backend.subscriptions.request(NAME, 0, session_id, "redrive")
                owners.consuming.wake_all()
            case _:
                handled = len(owners.seen)
                with suppress(AssertionError):
                    await wait_until(lambda least=handled + 3: len(owners.seen) >= least, 0.05)  # type: ignore[misc]
    owners.refused.clear()
    expected = {(i, version) for i in ids for version in range(1, versions[i] + 1)}
    await wait_until(lambda: set(owners.seen) == expected)
    for session_id in ids:
        first = list(dict.fromkeys(version for i, version in owners.seen if i == session_id))
        assert first == list(range(1, versions[session_id] + 1)), f"seed {seed}"
    await wait_until(lambda: _nothing_waits(ts))
    await owners.end(killed=False)
