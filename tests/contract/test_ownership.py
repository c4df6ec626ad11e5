"""Leases, fencing tokens and heartbeats: a partition has one owner."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.contract.deployments import Deployment, also_on_sentinel
from tests.contract.samples import batch_of, committed, created, taken

from turnstream.ports import START, Backend
from turnstream.signals import Fenced

pytestmark = also_on_sentinel


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 2}


async def test_a_fresh_partition_starts_at_the_beginning(backend: Backend) -> None:
    first, second = [await taken(backend, partition=partition) for partition in (0, 1)]
    assert (first.partition, first.cursor, first.sequence, first.type_sequences) == (0, START, 0, {})
    assert second.partition == 1
    assert first.generation
    assert first.token


async def test_a_partition_has_one_owner(backend: Backend, peer: Backend) -> None:
    await taken(backend, "worker-1")
    assert await peer.ownership.take(0, "worker-2") is None
    await taken(peer, "worker-2", partition=1)
    assert await backend.ownership.take(1, "worker-1") is None


async def test_one_of_many_workers_acquires_a_partition(backend: Backend, deployment: Deployment) -> None:
    peers = [await deployment.open() for _ in range(5)]
    for number, peer in enumerate(peers):
        deployment.resources.push_async_callback(peer.aclose)
        assert await peer.ownership.beat(f"worker-{number}")
    takes = [peer.ownership.take(0, f"worker-{number}") for number, peer in enumerate(peers)]
    assert [state is not None for state in await asyncio.gather(*takes)].count(True) == 1


async def test_a_released_partition_resumes_at_its_cursor(backend: Backend, peer: Backend) -> None:
    first = await committed(backend, await taken(backend, "worker-1"), created("s"))
    await backend.ownership.release([first])
    second = await taken(peer, "worker-2")
    assert second.token != first.token
    assert second == replace(first, token=second.token)
    assert await backend.ownership.renew([first]) == [False]
    assert await peer.ownership.renew([second]) == [True]


async def test_the_owner_before_cannot_write(backend: Backend, peer: Backend) -> None:
    first = await taken(backend, "worker-1")
    await backend.ownership.release([first])
    second = await taken(peer, "worker-2")
    with pytest.raises(Fenced, match="token"):
        await backend.store.commit(batch_of(first, created("s")))
    await committed(peer, second, created("s"))


async def test_a_token_is_never_given_twice(backend: Backend) -> None:
    tokens: set[str] = set()
    for _ in range(5):
        state = await taken(backend)
        tokens.add(state.token)
        await backend.ownership.release([state])
    assert len(tokens) == 5


async def test_an_owner_that_takes_again_fences_its_earlier_life(backend: Backend) -> None:
    first = await taken(backend, "worker-1")
    again = await taken(backend, "worker-1")
    assert await backend.ownership.renew([first, again]) == [False, True]
    with pytest.raises(Fenced, match="token"):
        await backend.store.commit(batch_of(first))
    await committed(backend, again)


async def test_a_worker_does_not_acquire_a_neighbours_partition(backend: Backend) -> None:
    await taken(backend, "worker-1")
    assert await backend.ownership.take(0, "worker-2") is None
    assert await backend.ownership.take(0, "worker-1") is not None


async def test_partitions_of_an_unregistered_worker_are_free(backend: Backend, peer: Backend) -> None:
    first = await taken(backend, "worker-1")
    await backend.ownership.beat("worker-2")
    await backend.ownership.depart("worker-1")
    second = await taken(peer, "worker-2")
    with pytest.raises(Fenced, match="token"):
        await backend.store.commit(batch_of(first, created("s")))
    await committed(peer, second, created("s"))


async def test_a_late_release_does_not_free_the_next_owners_lease(
    deployment: Deployment, backend: Backend, peer: Backend
) -> None:
    first = await taken(backend, "worker-1")
    await backend.ownership.release([first])
    await taken(peer, "worker-2")
    await backend.ownership.release([first])
    assert await backend.ownership.take(0, "worker-1") is None


async def test_a_lease_that_ran_out_is_renewed_until_another_takes_it(
    deployment: Deployment, backend: Backend, peer: Backend
) -> None:
    first = await taken(backend, "worker-1")
    await deployment.expire(first)
    assert await backend.ownership.renew([first]) == [True]
    assert await peer.ownership.take(0, "worker-2") is None
    await deployment.expire(first)
    await committed(backend, first, created("s"))
    await taken(peer, "worker-2")
    assert await backend.ownership.renew([first]) == [False]


async def test_renewals_answer_in_order(backend: Backend, peer: Backend) -> None:
    kept = await taken(backend, partition=1)
    lost = await taken(backend)
    await backend.ownership.release([lost])
    await taken(peer, "worker-2")
    assert await backend.ownership.renew([]) == []
    assert await backend.ownership.renew([lost, kept, lost]) == [False, True, False]


# ── the registry of workers ──────────────────────────────────────────────────────────────────────────────────────────


async def test_workers_know_of_each_other(backend: Backend, peer: Backend) -> None:
    assert list(await backend.ownership.beat("worker-1")) == ["worker-1"]
    assert sorted(await peer.ownership.beat("worker-2")) == ["worker-1", "worker-2"]
    assert sorted(await backend.ownership.beat("worker-1")) == ["worker-1", "worker-2"]
    await peer.ownership.depart("worker-2")
    await peer.ownership.depart("never there")
    assert list(await backend.ownership.beat("worker-1")) == ["worker-1"]


async def arrives(backend: Backend) -> None:
    await backend.ownership.beat("worker-2")


async def departs(backend: Backend) -> None:
    await backend.ownership.depart("worker-1")


async def releases(backend: Backend) -> None:
    await backend.ownership.release([await taken(backend, "worker-1")])


@pytest.mark.parametrize("change", [arrives, departs, releases])
async def test_changes_are_received(
    backend: Backend, peer: Backend, change: Callable[[Backend], Awaitable[None]]
) -> None:
    await peer.ownership.beat("worker-1")
    changes = aiter(backend.ownership.changes())
    await anext(changes)  # it listens
    await change(peer)
    await anext(changes)


# ── tidying ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tidying_an_unused_partition_changes_nothing_for_its_owner(backend: Backend) -> None:
    state = await taken(backend)
    await backend.ownership.tidy([])
    await backend.ownership.tidy([state])
    await backend.ownership.tidy([state])
    await committed(backend, state, created("s"))
