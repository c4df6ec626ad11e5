"""Durable subscriptions: members share partitions, and what they store belongs to who owns a partition."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.contract.deployments import Deployment, also_on_sentinel
from tests.contract.samples import taken
from tests.waiting import wait_until

from turnstream.domain.position import LogPosition
from turnstream.errors import SubscriptionInUse
from turnstream.ports import Backend, FailedEvent, Failure, ParkedEvents, ParkResult, SubscriptionState
from turnstream.signals import Fenced

pytestmark = also_on_sentinel

NAME = "billing"
LIMIT = 4
BYTES = 100
SECOND = timedelta(seconds=1)


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 2, "parked_events": LIMIT, "parked_event_bytes": BYTES, "lease": 60.0}


async def joined(
    backend: Backend, member_id: str = "member-1", partition: int = 0, name: str = NAME
) -> SubscriptionState:
    membership = backend.subscriptions.membership(name)
    await membership.beat(member_id)
    state = await membership.take(partition, member_id)
    assert state is not None
    return state


async def takes(backend: Backend, member_id: str, partition: int = 0) -> bool:
    return await backend.subscriptions.membership(NAME).take(partition, member_id) is not None


async def handed_over(backend: Backend, state: SubscriptionState, member_id: str = "member-2") -> SubscriptionState:
    """Release a partition and let another member take it."""
    await backend.subscriptions.membership(NAME).release([state])
    return await joined(backend, member_id, state.partition)


def failed(sequence: int, session_id: str = "s", payload: bytes = b"{}", attempts: int = 3) -> FailedEvent:
    return FailedEvent(session_id, sequence, payload, "ValueError", attempts)


async def parked(backend: Backend, state: SubscriptionState, *sequences: int, session_id: str = "s") -> list[bool]:
    events = [failed(sequence, session_id, b'{"n":%d}' % sequence) for sequence in sequences]
    return [await backend.subscriptions.park(NAME, state, event) is ParkResult.KEPT for event in events]


async def set_aside(
    backend: Backend, state: SubscriptionState, session_id: str, retry_in: float | None, sequence: int = 1
) -> ParkResult:
    failure = Failure(retry_in=retry_in)
    return await backend.subscriptions.park(NAME, state, failed(sequence, session_id, b"{}", 1), failure)


async def due(backend: Backend, count: int = 100, partition: int = 0) -> list[str]:
    return list((await backend.subscriptions.due(NAME, partition, count)).sessions)


async def described(backend: Backend, session_id: str = "s") -> ParkedEvents:
    return (await backend.subscriptions.parked(NAME, 0))[session_id]


async def waiting(backend: Backend, session_id: str = "s", partition: int = 0, count: int = 100) -> list[int]:
    queue = await backend.subscriptions.queue(NAME, partition, session_id, count)
    return [sequence for sequence, _ in queue]


async def stored(backend: Backend) -> object:
    """Return everything stored of the subscription, except the owners."""
    subscriptions, partitions = backend.subscriptions, range(backend.partitions)
    registries = [await subscriptions.parked(NAME, number) for number in partitions]
    queues = [
        [await subscriptions.queue(NAME, number, session_id, 100) for session_id in sorted(registry)]
        for number, registry in zip(partitions, registries, strict=True)
    ]
    return await subscriptions.checkpoints(NAME), registries, queues


# ── ownership ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_partition_that_was_never_read_has_no_checkpoint(backend: Backend) -> None:
    first, second = [await joined(backend, partition=partition) for partition in (0, 1)]
    assert (first.partition, first.mark, second.partition, second.mark) == (0, None, 1, None)
    assert first.token
    assert first.token != second.token


async def test_of_many_members_one_gets_a_partition(backend: Backend, peer: Backend) -> None:
    names = [f"member-{number}" for number in range(6)]
    memberships = [b.subscriptions.membership(NAME) for b in (backend, peer) * 3]
    for membership, member_id in zip(memberships, names, strict=True):
        await membership.beat(member_id)
    tries = [membership.take(0, member_id) for membership, member_id in zip(memberships, names, strict=True)]
    assert [state is not None for state in await asyncio.gather(*tries)].count(True) == 1


async def test_subscriptions_and_workers_do_not_share_partitions(backend: Backend, peer: Backend) -> None:
    await taken(backend, "one")
    first = await joined(backend, "one")
    await joined(peer, "two", name="audit")
    assert not await takes(peer, "two")
    assert list(await backend.ownership.beat("one")) == ["one"]
    assert list(await backend.subscriptions.membership("audit").beat("two")) == ["two"]
    await backend.subscriptions.checkpoint(NAME, first, LogPosition("g", 1))
    assert await backend.subscriptions.checkpoints("audit") == {}


async def test_the_next_owner_resumes_at_the_checkpoint(backend: Backend, peer: Backend) -> None:
    first = await joined(backend)
    await backend.subscriptions.checkpoint(NAME, first, LogPosition("g", 7))
    await backend.subscriptions.checkpoint(NAME, first, LogPosition("h", 2**53 + 1))
    second = await handed_over(peer, first)
    assert second.mark == LogPosition("h", 2**53 + 1)
    assert second.token != first.token
    assert await backend.subscriptions.membership(NAME).renew([first, second, first]) == [False, True, False]


async def test_a_token_is_never_given_twice(backend: Backend) -> None:
    tokens: set[str] = set()
    for _ in range(5):
        state = await joined(backend)
        tokens.add(state.token)
        await backend.subscriptions.membership(NAME).release([state])
    assert [token.split("-")[0] for token in sorted(tokens)] == ["1", "2", "3", "4", "5"]


async def test_a_member_that_takes_again_fences_its_earlier_life(backend: Backend) -> None:
    first, again = await joined(backend), await joined(backend)
    assert await backend.subscriptions.membership(NAME).renew([first, again]) == [False, True]
    with pytest.raises(Fenced, match="token"):
        await backend.subscriptions.checkpoint(NAME, first, LogPosition("g", 1))
    await backend.subscriptions.checkpoint(NAME, again, LogPosition("g", 1))


async def test_partitions_of_a_member_that_left_are_free(backend: Backend, peer: Backend) -> None:
    first = await joined(backend)
    await peer.subscriptions.membership(NAME).beat("member-2")
    assert not await takes(peer, "member-2")
    await backend.subscriptions.membership(NAME).depart("member-1")
    second = await joined(peer, "member-2")
    with pytest.raises(Fenced, match="token"):
        await backend.subscriptions.checkpoint(NAME, first, LogPosition("g", 1))
    await peer.subscriptions.checkpoint(NAME, second, LogPosition("g", 1))


async def test_a_late_release_does_not_free_the_next_owners_lease(backend: Backend, peer: Backend) -> None:
    first = await joined(backend)
    await handed_over(peer, first)
    await backend.subscriptions.membership(NAME).release([first])
    assert not await takes(backend, "member-1")


async def test_a_lease_that_ran_out_is_renewed_until_another_takes_it(
    deployment: Deployment, backend: Backend, peer: Backend
) -> None:
    first = await joined(backend)
    await peer.subscriptions.membership(NAME).beat("member-2")
    await deployment.expire_member(NAME, first)
    assert await backend.subscriptions.membership(NAME).renew([first]) == [True]
    assert not await takes(peer, "member-2")
    await deployment.expire_member(NAME, first)
    await backend.subscriptions.checkpoint(NAME, first, LogPosition("g", 1))
    assert (await joined(peer, "member-2")).mark == ("g", 1)
    assert await backend.subscriptions.membership(NAME).renew([first]) == [False]


class Plain:
    """A partition of a subscription, described as simply as possible; each step is also taken on the backend."""

    def __init__(self, deployment: Deployment) -> None:
        self.mark: LogPosition | None = None
        self.states: list[SubscriptionState] = []
        self._deployment = deployment
        self._leased = False
        self._owner = ""
        self._alive: set[str] = set()

    async def beat(self, backend: Backend, member: str) -> None:
        self._alive.add(member)
        assert set(await backend.subscriptions.membership(NAME).beat(member)) == self._alive

    async def depart(self, backend: Backend, member: str) -> None:
        self._alive.discard(member)
        await backend.subscriptions.membership(NAME).depart(member)

    async def take(self, backend: Backend, member: str) -> None:
        state = await backend.subscriptions.membership(NAME).take(0, member)
        assert (state is not None) == (not self._leased or self._owner == member or self._owner not in self._alive)
        if state:
            assert state.mark == self.mark
            self.states.append(state)
            self._leased, self._owner = True, member

    async def expire(self, backend: Backend, member: str) -> None:
        self._leased = False
        await self._deployment.expire_member(NAME, self.states[-1])

    async def renew(self, backend: Backend, member: str) -> None:
        answers = await backend.subscriptions.membership(NAME).renew(self.states[-2:])
        assert answers == [False, True][-len(self.states[-2:]) :]
        self._leased = True

    async def release(self, backend: Backend, member: str) -> None:
        chosen = self.states[-1 if member == self._owner else 0]
        self._leased = self._leased and chosen != self.states[-1]
        await backend.subscriptions.membership(NAME).release([chosen])

    async def checkpoint(self, backend: Backend, member: str) -> None:
        for number, stale in enumerate(self.states[-3:-1]):
            with pytest.raises(Fenced):
                await backend.subscriptions.checkpoint(NAME, stale, LogPosition("stale", number))
        self.mark = LogPosition("g", len(self.states))
        await backend.subscriptions.checkpoint(NAME, self.states[-1], self.mark)


@pytest.mark.parametrize("seed", range(3))
async def test_in_any_order_of_steps_a_partition_has_the_owner_of_a_plain_model(
    deployment: Deployment, backend: Backend, peer: Backend, seed: int
) -> None:
    chosen, plain = random.Random(seed), Plain(deployment)
    await plain.take(backend, "a")
    steps = (plain.take, plain.take, plain.beat, plain.depart, plain.expire, plain.renew, plain.release)
    for _ in range(150):
        step = chosen.choice((*steps, plain.checkpoint))
        await step(chosen.choice((backend, peer)), chosen.choice(("a", "b", "c")))
    assert await backend.subscriptions.checkpoints(NAME) == {0: plain.mark}
    assert len({state.token for state in plain.states}) == len(plain.states) > 20


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_members_know_of_each_other(backend: Backend, peer: Backend) -> None:
    first, second = backend.subscriptions.membership(NAME), peer.subscriptions.membership(NAME)
    assert list(await first.beat("member-1")) == ["member-1"]
    assert sorted(await second.beat("member-2")) == ["member-1", "member-2"]
    await first.watch("member-1")
    assert sorted(await backend.subscriptions.members(NAME)) == ["member-1", "member-2"]
    await second.depart("member-2")
    await second.depart("never there")
    assert list(await backend.subscriptions.members(NAME)) == ["member-1"]
    assert list(await backend.subscriptions.members("audit")) == []


async def arrives(backend: Backend) -> None:
    await backend.subscriptions.membership(NAME).beat("member-2")


async def departs(backend: Backend) -> None:
    await backend.subscriptions.membership(NAME).depart("member-1")


async def releases(backend: Backend) -> None:
    await backend.subscriptions.membership(NAME).release([await joined(backend)])


async def requests(backend: Backend) -> None:
    await backend.subscriptions.request(NAME, 0, "s", "redrive")


async def resets(backend: Backend) -> None:
    await backend.subscriptions.reset(NAME, {0: LogPosition("g", 1)})


@pytest.mark.parametrize("change", [arrives, departs, releases, requests, resets])
async def test_changes_are_received(
    backend: Backend, peer: Backend, change: Callable[[Backend], Awaitable[None]]
) -> None:
    await peer.subscriptions.membership(NAME).beat("member-1")
    changes = aiter(backend.subscriptions.membership(NAME).changes())
    await anext(changes)  # it listens
    await change(peer)
    await anext(changes)


async def test_a_subscription_is_listed_from_its_first_member_on(backend: Backend, peer: Backend) -> None:
    assert list(await backend.subscriptions.names()) == []
    backend.subscriptions.membership("looked-at")
    await joined(peer, name="b.2_x")
    await joined(backend, name="a")
    await backend.subscriptions.membership("a").depart("member-1")
    assert list(await backend.subscriptions.names()) == ["a", "b.2_x"]


# ── fencing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def checkpoints(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.checkpoint(NAME, state, LogPosition("g", 99))


async def parks(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.park(NAME, state, failed(99))


async def parks_another_session(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.park(NAME, state, failed(99, "t"))


async def unparks(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.unpark(NAME, state, "s", 1)


async def postpones(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.postpone(NAME, state, "s", Failure("KeyError", 1, retry_in=60.0))


async def hastens(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.hasten(NAME, state, 9)


@pytest.mark.parametrize("write", [checkpoints, parks, parks_another_session, unparks, postpones, hastens])
async def test_the_owner_before_writes_nothing(
    backend: Backend, peer: Backend, write: Callable[[Backend, SubscriptionState], Awaitable[None]]
) -> None:
    first = await joined(backend)
    await backend.subscriptions.checkpoint(NAME, first, LogPosition("g", 3))
    await parked(backend, first, 1, 2)
    await set_aside(backend, first, "t", 3600.0)
    second = await handed_over(peer, first)
    before = await stored(backend)
    for stale in (first, replace(second, token=""), replace(second, partition=1)):
        with pytest.raises(Fenced, match="token"):
            await write(backend, stale)
    assert await stored(backend) == before
    await write(peer, second)
    assert await stored(backend) != before


# ── parked events ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_parked_events_wait_in_order(backend: Backend, peer: Backend) -> None:
    state = await joined(backend)
    began = datetime.now(UTC)
    assert await backend.subscriptions.park(NAME, state, failed(5, payload=b"five"))
    assert await backend.subscriptions.park(NAME, state, FailedEvent("s", 7, b"seven"))
    assert await backend.subscriptions.park(NAME, state, FailedEvent("s", 10, b"ten"))
    ((session_id, found),) = (await peer.subscriptions.parked(NAME, 0)).items()
    assert session_id == "s"
    assert found == replace(found, count=3, size=12, reason="ValueError", attempts=3, lost=0)
    assert began - SECOND < found.since < datetime.now(UTC) + SECOND
    assert await peer.subscriptions.queue(NAME, 0, "s", 2) == [(5, b"five"), (7, b"seven")]
    assert await waiting(peer) == [5, 7, 10]
    assert await waiting(peer, "t") == await waiting(peer, partition=1) == []
    assert await peer.subscriptions.parked(NAME, 1) == await peer.subscriptions.parked("audit", 0) == {}


async def test_an_event_is_queued_once(backend: Backend) -> None:
    state = await joined(backend)
    assert await parked(backend, state, 5, 7, 10) == [True] * 3
    before = await stored(backend)
    assert await parked(backend, state, 10, 7, 5) == [True] * 3
    assert await stored(backend) == before
    await backend.subscriptions.unpark(NAME, state, "s", 5)
    before = await stored(backend)
    assert await parked(backend, state, 5) == [True]
    assert await stored(backend) == before


async def test_the_head_fails_again(backend: Backend) -> None:
    state = await joined(backend)
    await parked(backend, state, 5, 7)
    before = await described(backend)
    assert (before.is_parked, before.next_try, before.attempts) == (True, None, 3)
    failure = Failure("KeyError", 9, before.first, 2, is_parked=False, retry_in=3600.0)
    assert await backend.subscriptions.postpone(NAME, state, "s", failure)
    after = await described(backend)
    assert after.next_try
    assert timedelta(minutes=59) < after.next_try - datetime.now(UTC) < timedelta(minutes=61)
    known = replace(before, reason="KeyError", attempts=9, doublings=2, is_parked=False)
    assert after == replace(known, next_try=after.next_try)
    assert await backend.subscriptions.parked_session(NAME, 0, "s") == known
    assert await backend.subscriptions.queue(NAME, 0, "s", 1) == [(5, b'{"n":5}')]
    assert not await backend.subscriptions.postpone(NAME, state, "t", failure)
    assert await backend.subscriptions.parked_session(NAME, 0, "t") is None


async def test_the_head_leaves_and_with_the_last_event_the_session(backend: Backend, peer: Backend) -> None:
    first = await joined(backend)
    await parked(backend, first, 5, 10)
    before = (await backend.subscriptions.parked(NAME, 0))["s"]
    state = await handed_over(peer, first)
    unpark = peer.subscriptions.unpark
    assert await unpark(NAME, state, "s", 10) == 2
    assert await unpark(NAME, state, "s", 5) == 1
    assert await unpark(NAME, state, "s", 5) == 1
    after = (await peer.subscriptions.parked(NAME, 0))["s"]
    # Of the event that is the first one now nothing is known.
    fresh = replace(before, reason="", attempts=0, first=None)
    assert after == replace(fresh, count=1, size=before.size - len(b'{"n":5}'))
    assert await waiting(peer) == [10]
    assert await unpark(NAME, state, "s", 10) == 0
    assert await unpark(NAME, state, "s", 10) == 0
    assert await peer.subscriptions.parked(NAME, 0) == {}
    assert await parked(peer, state, 5) == [True]
    assert await waiting(peer) == [5]


async def test_above_the_limit_events_are_lost_and_counted(backend: Backend) -> None:
    state = await joined(backend)
    assert await parked(backend, state, 1, 3, 5) == [True] * 3
    assert await parked(backend, state, 7, session_id="t") == [True]
    assert await parked(backend, state, 8, 8, 9) == [False, True, False]
    assert await parked(backend, state, 10, session_id="u") == [False]
    found = await backend.subscriptions.parked(NAME, 0)
    assert {i: (p.count, p.lost) for i, p in found.items()} == {"s": (3, 2), "t": (1, 0), "u": (0, 1)}
    assert (found["u"].size, found["u"].reason, found["u"].attempts) == (0, "ValueError", 3)
    assert await parked(backend, await joined(backend, partition=1), 1) == [True]

    # There is room again; lost events stay lost, until the session is forgotten.
    assert await backend.subscriptions.unpark(NAME, state, "t", 7) == 0
    assert await parked(backend, state, 11, 12) == [True, False]
    assert await waiting(backend) == [1, 3, 5, 11]
    assert await backend.subscriptions.unpark(NAME, state, "u", 0) == 0
    found = await backend.subscriptions.parked(NAME, 0)
    assert {i: (p.count, p.lost) for i, p in found.items()} == {"s": (4, 3)}
    left = [await backend.subscriptions.unpark(NAME, state, "s", sequence) for sequence in (1, 3, 5, 11)]
    assert left == [3, 2, 1, 0]
    assert await parked(backend, state, 1, 2, 3, 4, 5) == [True] * LIMIT + [False]


async def test_bytes_are_limited_too(backend: Backend) -> None:
    state = await joined(backend)
    assert await backend.subscriptions.park(NAME, state, failed(1, payload=b"x" * 60))
    assert not await backend.subscriptions.park(NAME, state, failed(2, "t", payload=b"x" * 41))
    assert await backend.subscriptions.park(NAME, state, failed(3, payload=b"x" * 40))
    assert await backend.subscriptions.unpark(NAME, state, "s", 1) == 1
    assert await backend.subscriptions.park(NAME, state, failed(4, payload=b"x" * 60))
    found = (await backend.subscriptions.parked(NAME, 0))["s"]
    assert (found.count, found.size, found.lost) == (2, 100, 0)


async def test_commands_queued_after_others_stay_if_those_are_missing(backend: Backend) -> None:
    state = await joined(backend)
    before = await stored(backend)
    assert await backend.subscriptions.park(NAME, state, FailedEvent("s", 1, b"{}")) is ParkResult.ABSENT
    assert await stored(backend) == before
    await parked(backend, state, 1)
    assert await backend.subscriptions.park(NAME, state, FailedEvent("s", 2, b"{}")) is ParkResult.KEPT
    assert await waiting(backend) == [1, 2]


async def test_events_that_must_not_be_lost_are_not_parked_without_room(backend: Backend) -> None:
    state = await joined(backend)
    await parked(backend, state, 1, 2, 3, 4)
    before = await stored(backend)
    for event in (failed(5), failed(6, "t")):
        assert await backend.subscriptions.park(NAME, state, event, lose=False) is ParkResult.FULL
    assert await stored(backend) == before
    assert await backend.subscriptions.park(NAME, state, failed(4), lose=False) is ParkResult.KEPT
    await backend.subscriptions.unpark(NAME, state, "s", 1)
    assert await backend.subscriptions.park(NAME, state, failed(6, "t"), lose=False) is ParkResult.KEPT


async def test_the_last_event_stays_until_it_is_known_how_many_were_lost(backend: Backend) -> None:
    state = await joined(backend)
    await parked(backend, state, 1, 2, 3, 4, 5, 6)
    unpark = backend.subscriptions.unpark
    assert [await unpark(NAME, state, "s", sequence, 0) for sequence in (1, 2, 3)] == [3, 2, 1]
    assert await unpark(NAME, state, "s", 4, 1) == 1
    assert await waiting(backend) == [4]
    assert await unpark(NAME, state, "s", 4, 2) == 0
    assert await backend.subscriptions.parked(NAME, 0) == {}


async def test_sessions_of_odd_names_do_not_meet(backend: Backend) -> None:
    state = await joined(backend)
    names = ("requests", "a:b", "{ü}\x00")
    for number, name in enumerate(names, start=1):
        await parked(backend, state, number, session_id=name)
        await backend.subscriptions.request(NAME, 0, name, "discard")
    assert set(await backend.subscriptions.parked(NAME, 0)) == set(await backend.subscriptions.requests(NAME, 0))
    assert [await waiting(backend, name) for name in names] == [[1], [2], [3]]


# ── trying again ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sessions_are_due_when_their_time_has_come(backend: Backend, peer: Backend) -> None:
    state = await joined(backend)
    assert await due(backend) == []
    for session_id, retry_in in (("b", 0.0), ("later", 3600.0), ("last", 7200.0), ("never", None)):
        assert await set_aside(backend, state, session_id, retry_in) is ParkResult.KEPT
    found = await peer.subscriptions.due(NAME, 0, 100)
    assert list(found.sessions) == ["b"]
    assert found.next_in is not None
    assert 3500 < found.next_in <= 3600
    known = found.sessions["b"]
    assert known == (await described(peer, "b"))
    assert (known.attempts, known.is_parked, known.first) == (1, False, known.next_try)
    assert known.next_try == known.since <= found.now
    assert await due(backend, partition=1) == []
    assert (await described(backend, "never")).next_try is None
    # The next owner continues it.
    await handed_over(peer, state)
    assert await due(peer) == ["b"]


async def test_the_first_of_those_that_are_due_come_first(backend: Backend) -> None:
    state = await joined(backend)
    for session_id in "cab":
        await set_aside(backend, state, session_id, 0.0)
        since = (await described(backend, session_id)).since

        async def is_later(since: datetime = since) -> bool:
            return (await backend.subscriptions.due(NAME, 0, 1)).now >= since + timedelta(milliseconds=2)

        await wait_until(is_later)
    assert await due(backend, 2) == ["c", "a"]
    await backend.subscriptions.postpone(NAME, state, "c", Failure("KeyError", 2, retry_in=0.0))
    assert await due(backend) == ["a", "b", "c"]
    await backend.subscriptions.postpone(NAME, state, "a", Failure("KeyError", 2, is_parked=True))
    await backend.subscriptions.unpark(NAME, state, "b", 1)
    assert await due(backend) == ["c"]
    assert (await backend.subscriptions.due(NAME, 0, 9)).next_in is None


async def test_a_later_due_time_is_brought_forward(backend: Backend) -> None:
    state = await joined(backend)
    for session_id, retry_in in (("third", 9000.0), ("first", 60.0), ("second", 600.0), ("never", None)):
        await set_aside(backend, state, session_id, retry_in)
    assert await backend.subscriptions.hasten(NAME, state, 2) == 2
    assert sorted(await due(backend)) == ["first", "second"]
    assert await backend.subscriptions.hasten(NAME, state, 9) == 1
    assert sorted(await due(backend)) == ["first", "second", "third"]
    assert await backend.subscriptions.hasten(NAME, state, 9) == 0


async def test_since_when_an_event_fails_is_kept_from_try_to_try(backend: Backend) -> None:
    state = await joined(backend)
    await set_aside(backend, state, "s", 0.0)
    await parked(backend, state, 2)
    first = await described(backend)
    await backend.subscriptions.postpone(NAME, state, "s", Failure("KeyError", 2, first.first, retry_in=0.0))
    assert (await described(backend)).first == first.first
    await backend.subscriptions.unpark(NAME, state, "s", 1)
    fresh = await described(backend)
    assert (fresh.first, fresh.is_parked, fresh.next_try is not None) == (None, False, True)
    await backend.subscriptions.postpone(NAME, state, "s", Failure("KeyError", 1, retry_in=0.0))
    again = await described(backend)
    assert again.first is not None
    assert again.first >= first.since


# ── operators ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_requests_are_seen_until_they_are_withdrawn(backend: Backend, peer: Backend) -> None:
    ask = peer.subscriptions.request
    await ask(NAME, 0, "s", "redrive")
    await ask(NAME, 0, "t", "redrive")
    await ask(NAME, 0, "t", "discard")
    await ask(NAME, 1, "u", "discard")
    assert await backend.subscriptions.requests(NAME, 0) == {"s": "redrive", "t": "discard"}
    await backend.subscriptions.withdraw(NAME, 0, "s")
    await backend.subscriptions.withdraw(NAME, 0, "never asked")
    assert await backend.subscriptions.requests(NAME, 0) == {"t": "discard"}
    assert await backend.subscriptions.requests("audit", 0) == {}


async def test_a_reset_fences_the_owners_of_its_partitions(backend: Backend, peer: Backend) -> None:
    membership = backend.subscriptions.membership(NAME)
    first, other = await joined(backend), await joined(backend, partition=1)
    for state in (first, other):
        await backend.subscriptions.checkpoint(NAME, state, LogPosition("g", 9))
    await parked(backend, first, 8)
    await peer.subscriptions.reset(NAME, {0: LogPosition("h", 0)})
    assert await backend.subscriptions.checkpoints(NAME) == {0: ("h", 0), 1: ("g", 9)}
    for write in (checkpoints, parks, unparks, postpones, hastens):
        with pytest.raises(Fenced, match="token"):
            await write(backend, first)
    assert await membership.renew([first, other]) == [False, True]
    await peer.subscriptions.membership(NAME).beat("member-2")
    second = await joined(peer, "member-2")
    await membership.release([first])
    assert not await takes(backend, "member-1")
    assert (second.mark, second.token.split("-")[0]) == (("h", 0), "2")
    assert await waiting(peer) == [8]


async def test_a_reset_may_come_before_the_first_member(backend: Backend) -> None:
    await backend.subscriptions.reset(NAME, {1: LogPosition("g", 5)})
    assert (await joined(backend, partition=1)).mark == ("g", 5)
    assert (await joined(backend)).mark is None


async def test_a_subscription_with_members_is_not_forgotten(backend: Backend, peer: Backend) -> None:
    state = await joined(backend)
    await parked(backend, state, 1)
    before = await stored(peer)
    with pytest.raises(SubscriptionInUse, match="billing has 1 live members"):
        await peer.subscriptions.forget(NAME)
    assert await stored(peer) == before


async def test_a_forgotten_subscription_leaves_nothing(deployment: Deployment, backend: Backend, peer: Backend) -> None:
    await joined(backend, name="audit")
    await backend.subscriptions.membership("audit").depart("member-1")
    kept = await deployment.names()
    states = [await joined(backend, partition=partition) for partition in (0, 1)]
    for partition, state in enumerate(states):
        await backend.subscriptions.checkpoint(NAME, state, LogPosition("g", 1))
        for session_id in ("s", "t"):
            await parked(backend, state, 1, session_id=session_id)
        await set_aside(backend, state, "u", 60.0)
        await backend.subscriptions.request(NAME, partition, "s", "redrive")
    await backend.subscriptions.membership(NAME).depart("member-1")
    await peer.subscriptions.forget(NAME)
    assert sorted(await deployment.names()) == sorted(kept)
    assert list(await peer.subscriptions.names()) == ["audit"]
    with pytest.raises(Fenced, match="token"):
        await checkpoints(backend, states[0])
    await backend.subscriptions.membership(NAME).release(states)
    assert await stored(backend) == ({}, [{}, {}], [[], []])
    assert await backend.subscriptions.requests(NAME, 0) == {}
    assert (await joined(peer)).mark is None
    await peer.subscriptions.forget("never there")


async def test_the_beginning_of_a_partition_without_history_is_a_place(backend: Backend) -> None:
    """Otherwise a subscription to new events would restart after the events that happened while it was stopped."""
    state = await joined(backend)
    await backend.subscriptions.checkpoint(NAME, state, LogPosition("", 0))
    assert await backend.subscriptions.checkpoints(NAME) == {0: ("", 0)}
    assert (await handed_over(backend, state)).mark == ("", 0)
