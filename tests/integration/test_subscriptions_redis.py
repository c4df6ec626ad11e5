"""Durable subscriptions on a real server: time, connections, keys of another type, full memory."""

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from redis.crc import key_slot
from tests.contract.deployments import opened
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.waiting import wait_until

from turnstream.adapters.redis.backend import RedisBackend
from turnstream.domain.position import LogPosition
from turnstream.errors import KeyUnusable, StoredDataInvalid, SubscriptionInUse, Unavailable
from turnstream.ports import EPOCH, Backend, FailedEvent, Failure, SubscriptionState
from turnstream.signals import BatchRefused, Fenced

NAME = "billing"
LASTING = pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 600.0}])


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1, "lease": 0.05}


async def joined(backend: Backend, member_id: str = "member-1") -> SubscriptionState:
    membership = backend.subscriptions.membership(NAME)
    await membership.beat(member_id)
    state = await membership.take(0, member_id)
    assert state is not None
    return state


async def opened_redis(real: EmbeddedDeployment) -> RedisBackend:
    backend = await real.open()
    real.resources.push_async_callback(backend.aclose)
    return backend


def failed(sequence: int, session_id: str = "s") -> FailedEvent:
    return FailedEvent(session_id, sequence, b"{}", "ValueError", 1)


# ── histories that differ ──


@LASTING
async def test_an_owner_writes_nothing_on_top_of_another_history(real: EmbeddedDeployment) -> None:
    """A promoted replica may have the token, but not the events that the owner has queued: they would be skipped."""
    backend = await opened(real)
    state = await joined(backend)
    await backend.subscriptions.checkpoint(NAME, state, LogPosition("g", 1))
    assert len(state.replication_id) == 40
    another = replace(state, replication_id="0" * 40)
    with pytest.raises(Fenced):
        await backend.subscriptions.checkpoint(NAME, another, LogPosition("g", 3))
    with pytest.raises(Fenced):
        await backend.subscriptions.park(NAME, another, failed(3), Failure("ValueError", 1))
    membership = backend.subscriptions.membership(NAME)
    assert await membership.renew([another]) == [False]
    assert await backend.subscriptions.checkpoints(NAME) == {0: LogPosition("g", 1)}
    assert await backend.subscriptions.parked(NAME, 0) == {}
    # Without a replication id there is nothing to compare.
    await backend.subscriptions.checkpoint(NAME, replace(state, replication_id=""), LogPosition("g", 3))


# ── members that vanish ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_silent_member_is_replaced_when_its_lease_has_run_out(real: EmbeddedDeployment) -> None:
    backend, peer = await opened(real), await opened(real)
    silent = await joined(backend)
    await backend.subscriptions.checkpoint(NAME, silent, LogPosition("g", 5))
    membership = peer.subscriptions.membership(NAME)

    async def taken_over() -> bool:
        state = await membership.take(0, "member-2")
        return state is not None and state.mark == ("g", 5)

    await wait_until(taken_over)
    with pytest.raises(Fenced, match="token"):
        await backend.subscriptions.checkpoint(NAME, silent, LogPosition("g", 6))

    async def alone() -> bool:
        return list(await membership.beat("member-2")) == ["member-2"]

    await wait_until(alone)


async def test_a_subscription_may_be_forgotten_when_its_last_member_has_fallen_silent(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    await joined(backend)

    async def forgotten() -> bool:
        try:
            await backend.subscriptions.forget(NAME)
        except SubscriptionInUse:
            return False
        return True

    await wait_until(forgotten)
    assert list(await backend.subscriptions.members(NAME)) == []
    assert [name for name in await real.names() if "subscription" in name] == []


@LASTING
async def test_a_member_without_a_connection_is_replaced_long_before_its_lease_ends(
    real: EmbeddedDeployment,
) -> None:
    backend, peer = await opened_redis(real), await opened_redis(real)
    lost = await joined(backend)
    await backend.subscriptions.checkpoint(NAME, lost, LogPosition("g", 5))
    membership = peer.subscriptions.membership(NAME)
    await membership.beat("member-2")
    assert await membership.take(0, "member-2") is None
    await real.call("CLIENT", "KILL", "ID", await backend.server.calls(0).call("CLIENT", "ID"))

    async def forgotten() -> bool:
        await membership.watch("member-2")
        return list(await membership.beat("member-2")) == ["member-2"]

    await wait_until(forgotten)
    assert (await joined(peer, "member-2")).mark == ("g", 5)
    assert await backend.subscriptions.membership(NAME).renew([lost]) == [False]


@LASTING
async def test_an_acquisition_with_a_lost_reply_is_repeated(real: EmbeddedDeployment) -> None:
    backend = await opened_redis(real)
    lost = await joined(backend)
    backend.subscriptions.membership(NAME)._tokens.clear()
    assert (await joined(backend)).token != lost.token


# ── what happened to the keys ────────────────────────────────────────────────────────────────────────────────────────


@LASTING
async def test_all_keys_of_a_partition_lie_in_its_slot_and_only_leases_end(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await joined(backend)
    await backend.subscriptions.park(NAME, state, failed(1), Failure(retry_in=60.0))
    await backend.subscriptions.request(NAME, 0, "s", "redrive")
    keys = real.keys.partitions[0].subscription(NAME)
    expected = {keys.state, keys.lease, keys.parked, keys.requests, keys.retries, keys.queue("s")}
    names = {name for name in await real.names() if "subscription" in name}
    assert names == {*expected, real.keys.subscriptions, real.keys.members(NAME).members}
    slots = [key_slot(name.encode()) for name in (*expected, real.keys.partitions[0].events)]
    assert len(set(slots)) == 1
    assert [name for name in names if await real.call("PTTL", name) > 0] == [keys.lease]


@LASTING
async def test_after_a_flush_a_subscription_starts_afresh(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await joined(backend)
    await backend.subscriptions.checkpoint(NAME, state, LogPosition("g", 5))
    await real.call("FLUSHALL")
    assert await backend.subscriptions.membership(NAME).renew([state]) == [False]
    with pytest.raises(Fenced, match="token"):
        await backend.subscriptions.park(NAME, state, failed(1))
    assert (await joined(backend)).mark is None
    assert list(await backend.subscriptions.names()) == [NAME]


async def takes(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.membership(NAME).take(0, "member-1")


async def checkpoints(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.checkpoint(NAME, state, LogPosition("g", 99))


async def parks(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.park(NAME, state, failed(99))


async def unparks(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.unpark(NAME, state, "s", 1)


async def postpones(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.postpone(NAME, state, "s", Failure("KeyError", 1, retry_in=60.0))


async def hastens(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.hasten(NAME, state, 9)


async def requests(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.request(NAME, 0, "s", "redrive")


async def resets(backend: Backend, state: SubscriptionState) -> None:
    await backend.subscriptions.reset(NAME, {0: LogPosition("g", 0)})


WRITES = {
    "state": (takes, checkpoints, parks, unparks, postpones, hastens, resets),
    "parked": (parks, unparks, postpones),
    "queue": (parks, unparks),
    "retries": (parks, unparks, postpones, hastens),
    "requests": (requests,),
}


@LASTING
@pytest.mark.parametrize(("kind", "write"), [(kind, write) for kind, writes in WRITES.items() for write in writes])
async def test_a_key_of_another_type_is_named_and_nothing_is_written(
    real: EmbeddedDeployment, kind: str, write: Callable[[Backend, SubscriptionState], Awaitable[None]]
) -> None:
    backend = await opened(real)
    state = await joined(backend)
    for sequence in (1, 2):
        await backend.subscriptions.park(NAME, state, failed(sequence))
    keys = real.keys.partitions[0].subscription(NAME)
    key = keys.queue("s") if kind == "queue" else str(getattr(keys, kind))
    await real.call("UNLINK", key)
    await real.call("SET", key, "not ours")
    before = await real.dump()
    with pytest.raises((BatchRefused, KeyUnusable, StoredDataInvalid), match=f"WRONGTYPE|{re.escape(key)}"):
        await write(backend, state)
    assert await real.dump() == before


@LASTING
async def test_a_record_that_cannot_be_read_is_named_and_nothing_is_written(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await joined(backend)
    await real.call("HSET", real.keys.partitions[0].subscription(NAME).parked, "s", "nonsense")
    before = await real.dump()
    for write in (parks, unparks, postpones):
        with pytest.raises(BatchRefused, match="BADRECORD"):
            await write(backend, state)
    assert await real.dump() == before


@LASTING
async def test_a_record_from_before_sessions_were_tried_again_is_that_of_a_parked_one(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await joined(backend)
    await backend.subscriptions.park(NAME, state, failed(1))
    registry = real.keys.partitions[0].subscription(NAME).parked
    new = await backend.subscriptions.parked_session(NAME, 0, "s")
    assert new
    since = str((new.since - EPOCH) // timedelta(milliseconds=1))
    await real.call("HSET", registry, "s", f"1 2 {since} 1 0 1 ValueError")
    assert await backend.subscriptions.parked_session(NAME, 0, "s") == new
    await parks(backend, state)
    assert await backend.subscriptions.postpone(NAME, state, "s", Failure("KeyError", 2, retry_in=0.0))
    assert list((await backend.subscriptions.due(NAME, 0, 9)).sessions) == ["s"]


@LASTING
async def test_a_retry_without_a_record_is_dropped(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await joined(backend)
    await real.call("ZADD", real.keys.partitions[0].subscription(NAME).retries, 1, "s")
    assert list((await backend.subscriptions.due(NAME, 0, 9)).sessions) == ["s"]
    assert await backend.subscriptions.unpark(NAME, state, "s", 0) == 0
    assert list((await backend.subscriptions.due(NAME, 0, 9)).sessions) == []


@LASTING
async def test_a_missing_queue_ends_with_its_next_event(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await joined(backend)
    for sequence in (1, 2):
        await backend.subscriptions.park(NAME, state, failed(sequence))
    keys = real.keys.partitions[0].subscription(NAME)
    await real.call("UNLINK", keys.queue("s"))
    assert await backend.subscriptions.unpark(NAME, state, "s", 1) == 0
    assert await backend.subscriptions.parked(NAME, 0) == {}
    assert await real.call("HMGET", keys.state, "parked", "parkedBytes") == [b"0", b"0"]


@LASTING
async def test_checkpoints_are_kept_when_memory_is_full(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await joined(backend)
    await backend.subscriptions.park(NAME, state, failed(1))
    await real.call("CONFIG", "SET", "maxmemory", "1")
    try:
        await backend.subscriptions.checkpoint(NAME, state, LogPosition("g", 5))
        assert await backend.subscriptions.membership(NAME).renew([state]) == [True]
        before = await real.dump()
        with pytest.raises(Unavailable):
            await backend.subscriptions.park(NAME, state, failed(2))
        assert await real.dump() == before
        assert await backend.subscriptions.postpone(NAME, state, "s", Failure("KeyError", 2, retry_in=60.0))
        assert await backend.subscriptions.hasten(NAME, state, 9) == 1
        assert await backend.subscriptions.unpark(NAME, state, "s", 1) == 0
    finally:
        await real.call("CONFIG", "SET", "maxmemory", "0")
    assert await backend.subscriptions.checkpoints(NAME) == {0: ("g", 5)}
