"""Leases and heartbeats on a real server: behaviour that only a server can show."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from tests.contract.deployments import opened
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.samples import batch_of, command, committed, created, taken
from tests.waiting import wait_until

from turnstream.adapters.redis.backend import RedisBackend
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.ports import START
from turnstream.signals import Fenced


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 2, "lease": 0.05}


@asynccontextmanager
async def configured(real: EmbeddedDeployment, name: str, value: str) -> AsyncGenerator[None]:
    """Set a parameter of the server, and set it back."""
    _, before = await real.call("CONFIG", "GET", name)
    await real.call("CONFIG", "SET", name, value)
    try:
        yield
    finally:
        await real.call("CONFIG", "SET", name, before)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lease_runs_out(real: EmbeddedDeployment) -> None:
    backend, peer = await opened(real), await opened(real)
    first = await taken(backend, "worker-1")
    assert 0 < await real.call("PTTL", real.keys.partitions[0].lease) <= 50
    await wait_until(lambda: _takes(peer, "worker-2"))
    with pytest.raises(Fenced, match="token"):
        await backend.store.commit(batch_of(first, created("s")))
    assert await backend.ownership.renew([first]) == [False]


async def _takes(peer: Any, worker_id: str) -> bool:  # noqa: ANN401 - a backend
    return await peer.ownership.take(0, worker_id) is not None


@pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 60.0}])
async def test_a_renewal_prolongs_the_lease(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    lease = real.keys.partitions[0].lease
    await real.call("PEXPIRE", lease, 1_000)
    assert await backend.ownership.renew([state]) == [True]
    assert await real.call("PTTL", lease) > 50_000


@pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 60.0}])
async def test_a_renewal_leaves_a_lease_in_another_name_alone(real: EmbeddedDeployment) -> None:
    """No script makes such a pair of lease and token; a restored dump, or a hand, can."""
    backend = await opened(real)
    state = await taken(backend)
    lease = real.keys.partitions[0].lease
    await real.call("SET", lease, "somebody-else", "PX", 60_000)
    assert await backend.ownership.renew([state]) == [False]
    assert await real.call("GET", lease) == b"somebody-else"


async def test_a_silent_worker_is_forgotten(real: EmbeddedDeployment) -> None:
    backend, peer = await opened(real), await opened(real)
    await backend.ownership.beat("silent")

    async def alone() -> bool:
        return list(await peer.ownership.beat("alive")) == ["alive"]

    await wait_until(alone)


# ── connections: a worker that was killed is found out long before its lease ends ────────────────────────────────────

LASTING = pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 600.0}])


async def two_workers(real: EmbeddedDeployment) -> tuple[RedisBackend, RedisBackend]:
    """Two registered backends; the second owns the partition."""
    watcher, watched = await real.open(), await real.open()
    real.resources.push_async_callback(watcher.aclose)
    real.resources.push_async_callback(watched.aclose)
    await taken(watched, "watched")
    await watcher.ownership.beat("watcher")
    return watcher, watched


@LASTING
async def test_a_worker_without_a_connection_loses_its_partitions(real: EmbeddedDeployment) -> None:
    watcher, watched = await two_workers(real)
    await watched.aclose()

    async def forgotten() -> bool:
        await watcher.ownership.watch("watcher")
        return list(await watcher.ownership.beat("watcher")) == ["watcher"]

    assert await watcher.ownership.take(0, "watcher") is None
    await wait_until(forgotten)
    await taken(watcher, "watcher")


@LASTING
async def test_a_worker_that_only_says_nothing_is_left_alone(real: EmbeddedDeployment) -> None:
    watcher, _ = await two_workers(real)
    for _ in range(5):
        await watcher.ownership.watch("watcher")
    assert len(await watcher.ownership.beat("watcher")) == 2


@LASTING
async def test_a_worker_that_opens_another_connection_is_left_alone(real: EmbeddedDeployment) -> None:
    watcher, watched = await two_workers(real)
    await real.call("CLIENT", "KILL", "ID", await watched.server.calls(0).call("CLIENT", "ID"))
    await watcher.ownership.watch("watcher")
    await wait_until(partial(_beats, watched, "watched"))
    for _ in range(5):
        await watcher.ownership.watch("watcher")
    assert len(await watcher.ownership.beat("watcher")) == 2


async def _beats(backend: RedisBackend, worker_id: str) -> bool:
    with suppress(Unavailable):
        return len(await backend.ownership.beat(worker_id)) == 2
    return False


@LASTING
async def test_a_worker_of_the_servers_earlier_life_is_left_to_its_lease(real: EmbeddedDeployment) -> None:
    """After a restart the server counts connections from 1, so an id says nothing about an earlier worker."""
    watcher, _ = await two_workers(real)
    beaten = (await real.call("HGET", real.keys.workers, "watched")).split()[0].decode()
    await real.call("HSET", real.keys.workers, "watched", f"{beaten} an-earlier-run:999999")
    await watcher.ownership.beat("watcher")
    for _ in range(5):
        await watcher.ownership.watch("watcher")
    assert len(await watcher.ownership.beat("watcher")) == 2


@LASTING
async def test_an_acquisition_with_a_lost_reply_is_repeated(real: EmbeddedDeployment) -> None:
    backend = await real.open()
    real.resources.push_async_callback(backend.aclose)
    await backend.queue.publish(0, [command("c1")])
    lost = await taken(backend, "worker-1")
    backend.ownership._tokens.clear()
    state = await taken(backend, "worker-1")
    assert state.token != lost.token
    assert state.suspects == 0


# ── generations ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_another_history_of_the_server_is_another_generation(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    key = real.keys.partitions[0].partition
    first = await committed(backend, await taken(backend), created("s"))
    again = await taken(backend)
    assert again.generation == first.generation
    generations = [first.generation]
    state = again
    for _ in range(40):
        await real.call("HSET", key, "replicationId", "another")
        state = await taken(backend)
        assert (state.sequence, state.cursor) == (first.sequence, first.cursor)
        generations.append(state.generation)
    assert len(set(generations)) == len(generations)
    former = (await real.call("HGET", key, "formerGenerations")).decode().split()
    assert former == [f"{generation}:{first.sequence}" for generation in generations[-2:-34:-1]]
    await committed(backend, state)


async def test_events_of_a_commit_that_was_broken_off_are_dropped_and_their_numbers_used_in_another_generation(
    real: EmbeddedDeployment,
) -> None:
    backend = await opened(real)
    keys = real.keys.partitions[0]
    state = await committed(backend, await taken(backend), created("s"))
    await real.call("XADD", keys.events, f"{state.sequence + 1}-0", "event", "{}")
    with pytest.raises(Fenced, match="events"):
        await backend.store.commit(batch_of(state, created("t")))
    again = await taken(backend)
    assert (again.sequence, again.cursor) == (state.sequence, state.cursor)
    assert again.generation != state.generation
    former = (await real.call("HGET", keys.partition, "formerGenerations")).decode()
    assert former == f"{state.generation}:{state.sequence}"
    assert len(await real.events(0)) == state.sequence
    await committed(backend, again, created("t"))


async def test_an_entry_that_is_no_event_does_not_keep_owners_from_dropping_a_commit_that_was_broken_off(
    real: EmbeddedDeployment,
) -> None:
    """Lua cannot hand so many words over at once."""
    backend = await opened(real)
    keys = real.keys.partitions[0]
    state = await committed(backend, await taken(backend), created("s"))
    await real.call("XADD", keys.events, f"{state.sequence}-1", *(str(number) for number in range(20_000)))
    state = await committed(backend, state, created("t"))
    await real.call("XADD", keys.events, f"{state.sequence + 1}-0", "event", "{}")
    again = await taken(backend)
    assert again.sequence == state.sequence
    assert len(await real.events(0)) == state.sequence
    await committed(backend, again, created("u"))


@pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 60.0}])
async def test_a_token_that_has_survived_in_another_history_is_not_renewed(real: EmbeddedDeployment) -> None:
    """No commit need follow that would find out that less has happened than the owner remembers."""
    backend = await opened(real)
    state = await taken(backend)
    assert await backend.ownership.renew([state]) == [True]
    assert await backend.ownership.renew([replace(state, replication_id="another")]) == [False]
    assert await backend.ownership.renew([replace(state, replication_id="")]) == [True]


# ── what happened to the keys ────────────────────────────────────────────────────────────────────────────────────────


async def test_after_a_flush_a_partition_starts_afresh(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await committed(backend, await taken(backend), created("s"))
    await real.call("FLUSHALL")
    assert await backend.ownership.renew([state]) == [False]
    with pytest.raises(Fenced, match="token"):
        await backend.store.commit(batch_of(state))
    fresh = await taken(backend)
    assert (fresh.cursor, fresh.sequence, fresh.type_sequences) == (START, 0, {})
    assert fresh.generation != state.generation
    await committed(backend, fresh, created("s"))


async def test_a_partition_of_another_layout_is_not_taken(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    await backend.ownership.release([await taken(backend)])
    for field, value in (("layout", 7), ("partitions", 16)):
        before = await real.call("HGET", real.keys.partitions[0].partition, field)
        await real.call("HSET", real.keys.partitions[0].partition, field, value)
        with pytest.raises(ConfigurationError, match=f"{value}"):
            await backend.ownership.take(0, "worker-1")
        await real.call("HSET", real.keys.partitions[0].partition, field, before)
    await taken(backend)


async def test_a_key_of_another_type_stops_a_commit_before_its_first_write(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    keys = real.keys.partitions[0]
    for key in (keys.session("s"), keys.messages("s"), keys.order("s"), keys.index, keys.events, keys.commands):
        await real.call("SET", key, "not ours")
        before = await real.dump()
        with pytest.raises(Exception, match=r" is a string|WRONGTYPE"):
            await backend.store.commit(batch_of(state, created("s", ["m"])))
        assert await real.dump() == before
        await real.call("DEL", key)
    await committed(backend, state, created("s", ["m"]))


async def test_progress_is_shown_to_standard_tools(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    await backend.queue.publish(0, [command(f"c{number}") for number in range(5)])
    # A consumer group of another program changes nothing.
    await real.call("XGROUP", "CREATE", real.keys.partitions[0].commands, "zeta", "0")
    entries = (await backend.queue.read({0: START}, 10, 1.0))[0]
    batch = batch_of(state, cursor=entries[2].entry_id)
    await backend.store.commit(batch)
    for _ in range(2):
        await backend.ownership.tidy([batch.after])
        (group, _) = await real.raw.xinfo_groups(real.keys.partitions[0].commands)
        assert group["last-delivered-id"] == entries[2].entry_id.encode()
        assert (group["pending"], group["consumers"], group["lag"], group["entries-read"]) == (0, 0, 2, 3)
    await backend.queue.publish(0, [command("another")])
    await backend.ownership.tidy([batch.after])
    (group, _) = await real.raw.xinfo_groups(real.keys.partitions[0].commands)
    assert (group["lag"], group["entries-read"]) == (3, 3)
    await real.call("FLUSHALL")
    await backend.ownership.tidy([batch.after])
    assert await real.names() == []


# ── servers that do not fit ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
async def test_a_server_that_evicts_keys_is_refused(real: EmbeddedDeployment, policy: str) -> None:
    async with configured(real, "maxmemory-policy", policy):
        with pytest.raises(ConfigurationError, match=rf"maxmemory-policy {policy}.*noeviction"):
            await real.open()
    await opened(real)


@pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 60.0}])
async def test_leases_are_kept_when_memory_is_full(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    async with configured(real, "maxmemory", "1"):
        assert await backend.ownership.renew([state]) == [True]
        assert list(await backend.ownership.beat("worker-1")) == ["worker-1"]
        with pytest.raises(Unavailable):
            await backend.queue.publish(0, [replace(command("c"), type="add-message")])
        before = await real.dump()
        with pytest.raises(Unavailable):
            await backend.store.commit(batch_of(state, created("s")))
        assert await real.dump() == before
        await backend.ownership.release([state])
    state = await taken(backend)
    await committed(backend, state, created("s"))
    assert await real.backlog(0) == 0
