"""The event log: the past events that any client may read."""

import asyncio
from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace
from tests.contract.deployments import Deployment, also_on_sentinel
from tests.contract.redis_deployments import EmbeddedDeployment, RedisDeployment
from tests.contract.samples import added, batch_of, created, deleted, event, message, taken

from turnstream.domain.events import AnyEvent
from turnstream.ports import Backend, EventPage, PartitionState, SessionWrite

MIB = 1024 * 1024


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 2, "event_retention": 100}


async def happened(backend: Backend, state: PartitionState, *events: AnyEvent, write: SessionWrite) -> PartitionState:
    batch = batch_of(state, write, events=events)
    await backend.store.commit(batch)
    return batch.after


async def filled(backend: Backend, events: int, text: str = "Hello") -> PartitionState:
    """Take the first partition, and let so many events happen there, the last of them a deletion."""
    bodies = [added(n, message(f"m{n}", text)) for n in range(1, events)]
    return await happened(backend, await taken(backend), *bodies, event(events), write=created("s"))


def sequences(page: EventPage) -> list[int]:
    return [sequence for sequence, _ in page.payloads]


async def all_sequences(backend: Backend, count: int) -> list[list[int]]:
    """Read from the beginning, page after page, to the head."""
    pages: list[list[int]] = []
    after, head = 0, 1
    while after < head:
        page = await backend.events.read(0, after, count)
        pages.append(sequences(page))
        after, head = pages[-1][-1], page.head
    return pages


@also_on_sentinel
async def test_a_partition_without_an_owner(backend: Backend) -> None:
    assert await backend.events.read(1, 0, 10, "s") == EventPage("", (), 1, 0, {}, 0, ())


async def test_a_partition_in_which_nothing_happened(backend: Backend) -> None:
    state = await taken(backend)
    assert await backend.events.read(0, 0, 10) == EventPage(state.generation, (), 1, 0, {}, 0, ())


@also_on_sentinel
async def test_every_range(backend: Backend, peer: Backend) -> None:
    state = await filled(backend, 60)
    for after, count in product((0, 1, 5, 58, 59, 60, 61, 1000), (0, 1, 2, 33, 60, 100)):
        page = await peer.events.read(0, after, count)
        assert sequences(page) == list(range(1, 61))[after : after + count]
        assert replace(page, payloads=()) == EventPage(
            state.generation, (), 1, 60, {"message-added": 59, "session-deleted": 60}, 0, ()
        )
    assert (await peer.events.read(1, 0, 10)).payloads == ()


async def test_payloads_are_the_envelopes(backend: Backend) -> None:
    state = await taken(backend)
    events: list[AnyEvent] = [added(1, message("a", "ü")), event(2)]
    await happened(backend, state, *events, write=created("s"))
    page = await backend.events.read(0, 0, 10)
    assert page.payloads == tuple((n, e.to_json()) for n, e in enumerate(events, 1))


async def test_read_values_can_be_changed_without_harm(backend: Backend) -> None:
    await filled(backend, 2)
    types = (await backend.events.read(0, 0, 1)).types
    assert isinstance(types, dict)
    types.clear()
    assert (await backend.events.read(0, 0, 1)).types


async def test_the_last_sequence_of_a_session(backend: Backend) -> None:
    state = await filled(backend, 3)
    assert [(await backend.events.read(0, 3, 0, i)).session for i in ("s", "gone", None)] == [1, 0, 0]
    await happened(backend, state, event(4), write=deleted("s"))
    assert (await backend.events.read(0, 3, 0, "s")).session == 0


async def test_trimming_is_reported_with_the_oldest_event(backend: Backend, deployment: Deployment) -> None:
    state = await filled(backend, 500)
    await backend.ownership.tidy([state])
    kept = [e.meta.sequence for e in await deployment.events(0) if e.meta]
    page = await backend.events.read(0, 0, 1000)
    assert 1 < page.oldest == kept[0]
    assert sequences(page) == kept
    assert sequences(await backend.events.read(0, 490, 5)) == [491, 492, 493, 494, 495]


async def test_a_page_of_large_events_ends_early(backend: Backend) -> None:
    """Small ones before them, which would promise that many have room."""
    state = await filled(backend, 40)
    large = [added(n, message(f"m{n}", "x" * 300_000)) for n in range(41, 61)]
    await happened(backend, state, *large, write=replace(created("t"), session_id="t"))
    pages = await all_sequences(backend, 1000)
    assert [sequence for page in pages for sequence in page] == list(range(1, 61))
    assert max(len([n for n in page if n > 40]) for page in pages) == 4


async def test_an_event_larger_than_a_page_comes_alone(backend: Backend) -> None:
    await filled(backend, 4, "x" * (2 * MIB))
    assert await all_sequences(backend, 1000) == [[1], [2], [3], [4]]


# ── where history is another one's, or is not safe yet ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("deployment", ["fakeredis", "embedded", "cluster", "sentinel"], indirect=True)
async def test_unconfirmed_events_are_not_published(backend: Backend, deployment: Deployment) -> None:
    assert isinstance(deployment, RedisDeployment)
    await filled(backend, 10)
    await deployment.call("HSET", deployment.keys.partitions[0].partition, "stable", 7)
    page = await backend.events.read(0, 5, 100)
    assert (page.head, page.oldest, sequences(page)) == (7, 1, [6, 7])
    assert page.types == {"message-added": 9, "session-deleted": 10}
    assert sequences(await backend.events.read(0, 7, 100)) == []


async def test_former_generations_are_reported(real: EmbeddedDeployment) -> None:
    backend = await real.open()
    real.resources.push_async_callback(backend.aclose)
    first = await filled(backend, 3)
    key = real.keys.partitions[0].partition
    await real.call("HSET", key, "replicationId", "another")
    second = await taken(backend)
    await happened(backend, second, event(4), write=deleted("s"))
    await real.call("HSET", key, "replicationId", "another")
    third = await taken(backend)
    page = await backend.events.read(0, 0, 100)
    assert page.generation == third.generation
    assert page.former == ((second.generation, 4), (first.generation, 3))
    assert sequences(page) == [1, 2, 3, 4]


async def test_a_page_is_of_one_moment(backend: Backend, peer: Backend) -> None:
    pages: list[EventPage] = []

    async def read() -> None:
        while not pages or pages[-1].head < 100:
            pages.append(await peer.events.read(0, 0, 1000))
            await asyncio.sleep(0)

    state = await taken(backend)
    reading = asyncio.create_task(read())
    for number in range(1, 101, 2):
        two = (event(number), event(number + 1))
        state = await happened(backend, state, *two, write=SessionWrite("s", before=None))
        await asyncio.sleep(0)
    await reading
    assert len({page.head for page in pages}) > 2
    for page in pages:
        assert page.head == page.types.get("session-deleted", 0) == len(page.payloads)
        assert page.head % 2 == 0
