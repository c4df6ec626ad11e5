"""The command streams: nothing is lost, doubled or reordered on its way to the worker."""

import asyncio
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from tests.contract.deployments import Deployment, also_on_sentinel
from tests.contract.samples import batch_of, command, taken
from tests.waiting import SOON, wait_until

from turnstream.codec.envelope import decode_entry, entry_time
from turnstream.errors import Overloaded
from turnstream.ports import START, Backend, CommandEntry, RawEntry

pytestmark = also_on_sentinel


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"max_backlog": 3}


def order(entry: RawEntry) -> tuple[int, int]:
    return entry_time(entry.entry_id), int(entry.entry_id.partition("-")[2])


async def read(backend: Backend, cursor: str = START, count: int = 1_000, partition: int = 0) -> list[RawEntry]:
    found = await backend.queue.read({partition: cursor}, count, 1.0)
    assert set(found) <= {partition}
    return list(found.get(partition, ()))


def names(entries: list[RawEntry]) -> list[str]:
    return [decode_entry(entry.fields).command_id for entry in entries]


@pytest.mark.parametrize(
    "entry",
    [
        CommandEntry("id", "type", b"{}"),
        command("ü"),
        CommandEntry("id", "type", b'{"a": "\xc3\xbc"}', "channel", "correlation", "trace"),
        CommandEntry("id", "type", b"\x00\xff\r\n$-1\r\n" * 100),
        CommandEntry("id", "type", b"x" * 1024 * 1024),
    ],
)
async def test_an_entry_arrives_as_it_was_published(backend: Backend, peer: Backend, entry: CommandEntry) -> None:
    await peer.queue.publish(0, [entry])
    assert [decode_entry(found.fields) for found in await read(backend)] == [entry]


@pytest.mark.parametrize("overrides", [{}])
async def test_entries_keep_their_order(backend: Backend, peer: Backend) -> None:
    published = [f"c{number}" for number in range(300)]
    await peer.queue.publish(0, [command(name) for name in published[:256]])
    for name in published[256:]:
        await peer.queue.publish(0, [command(name)])
    entries = await read(backend)
    assert names(entries) == published
    assert all(order(one) < order(next_one) for one, next_one in pairwise(entries))


@pytest.mark.parametrize("overrides", [{}])
async def test_a_cursor_walks_through_a_stream(backend: Backend) -> None:
    await backend.queue.publish(0, [command(f"c{number}") for number in range(25)])
    cursor, walked = START, list[str]()
    while len(walked) < 25:
        entries = await read(backend, cursor, count=10)
        assert 0 < len(entries) <= 10
        walked += names(entries)
        cursor = entries[-1].entry_id
    assert walked == [f"c{number}" for number in range(25)]
    # Reading removes nothing.
    assert len(await read(backend)) == 25


async def test_partitions_are_read_together_each_after_its_cursor(backend: Backend) -> None:
    for partition, count in ((0, 3), (1, 3), (3, 1)):
        await backend.queue.publish(partition, [command(f"p{partition}-{number}") for number in range(count)])
    second = (await read(backend, partition=1))[1]
    cursors, found = {0: START, 1: second.entry_id, 2: START}, dict[int, list[str]]()
    # Partitions on several servers need not answer in the same call.
    while len(found) < 2:
        for partition, some in (await backend.queue.read(cursors, 2, 1.0)).items():
            found[partition] = names(list(some))
            del cursors[partition]
    assert found == {0: ["p0-0", "p0-1"], 1: ["p1-2"]}
    assert await backend.queue.read(cursors, 2, 0.01) == {}


@pytest.mark.parametrize("kind", ["add-message", "delete-session"])
async def test_an_overloaded_partition_takes_none_of_the_commands(
    deployment: Deployment, backend: Backend, kind: str
) -> None:
    """Commands that free memory have their own script."""
    await backend.queue.publish(0, [command("c1", kind=kind), command("c2", kind=kind)])
    with pytest.raises(Overloaded) as overloaded:
        await backend.queue.publish(0, [command("c3", kind=kind), command("c4", kind=kind)])
    assert (overloaded.value.backlog, overloaded.value.limit) == (2, 3)
    assert await deployment.backlog(0) == 2
    await backend.queue.publish(0, [command("c3", kind=kind)])
    await backend.queue.publish(1, [command("of another partition", kind=kind)])
    assert names(await read(backend)) == ["c1", "c2", "c3"]


async def test_there_is_room_again_when_commands_were_applied(backend: Backend) -> None:
    await backend.queue.publish(0, [command("c1"), command("c2"), command("c3")])
    with pytest.raises(Overloaded):
        await backend.queue.publish(0, [command("c4")])
    await backend.store.commit(batch_of(await taken(backend), cursor=(await read(backend))[1].entry_id))
    await backend.queue.publish(0, [command("c4"), command("c5")])
    assert names(await read(backend)) == ["c3", "c4", "c5"]


async def test_a_waiting_read_gets_published_events(backend: Backend, peer: Backend) -> None:
    reading = asyncio.create_task(backend.queue.read({0: START, 1: START}, 10, SOON))
    await peer.queue.publish(1, [command("c")])
    assert {partition: names(list(some)) for partition, some in (await reading).items()} == {1: ["c"]}


@pytest.mark.parametrize("overrides", [{}])
async def test_each_partition_is_read_whichever_were_before(backend: Backend, peer: Backend) -> None:
    cursors = dict.fromkeys(range(4), START)
    for number, partition in enumerate([0, 0, 0, 1, 0, 1, 1, 2, 0, 3, 3, 1, 2, 0]):
        reading = asyncio.create_task(backend.queue.read(dict(cursors), 10, SOON))
        await peer.queue.publish(partition, [command(f"c{number}")])
        found = await reading
        assert {each: names(list(some)) for each, some in found.items()} == {partition: [f"c{number}"]}
        cursors[partition] = found[partition][-1].entry_id


async def test_a_request_after_a_wakeup_is_read(backend: Backend, peer: Backend) -> None:
    await peer.queue.publish(0, [command("c")])
    cursors = {0: (await read(backend))[-1].entry_id, 1: START}
    reading = asyncio.create_task(backend.queue.read(cursors, 10, SOON))
    await wait_until(partial(_woken, backend, reading))
    reading = asyncio.create_task(backend.queue.read({**cursors, 2: START}, 10, SOON))
    await peer.queue.publish(2, [command("of a new partition")])
    assert list(await reading) == [2]


async def test_a_read_ends_without_a_wakeup(backend: Backend) -> None:
    assert await backend.queue.read({0: START}, 10, 0.001) == {}
    assert await backend.queue.read({0: START}, 10, 0.05) == {}


async def test_a_read_ends_without_a_wakeup_after_a_shorter_one(backend: Backend) -> None:
    await backend.queue.publish(0, [command("c")])
    cursors = {0: (await read(backend))[-1].entry_id}
    async with asyncio.timeout(SOON):
        assert await backend.queue.read(cursors, 10, 1.1) == {}


async def test_a_read_that_may_not_wait_returns_at_once(backend: Backend) -> None:
    async with asyncio.timeout(SOON):
        assert await backend.queue.read({0: START}, 10, 0.0) == {}
        await backend.queue.publish(0, [command("c")])
        while not (found := await backend.queue.read({0: START}, 10, 0.0)):
            pass
        assert list(found) == [0]


async def test_wake_ends_a_read_that_waits_and_no_later_one(backend: Backend, peer: Backend) -> None:
    await backend.queue.wake()
    for _ in range(3):
        reading = asyncio.create_task(backend.queue.read({0: START}, 10, SOON))
        await wait_until(partial(_woken, backend, reading))
        assert await reading == {}
    later = asyncio.create_task(backend.queue.read({0: START}, 10, SOON))
    await peer.queue.publish(0, [command("c")])
    assert list(await later) == [0]


async def _woken(backend: Backend, reading: "asyncio.Task[Any]") -> bool:
    await backend.queue.wake()
    return reading.done()


async def test_a_read_that_is_cancelled_loses_nothing(backend: Backend) -> None:
    for _ in range(3):
        reading = asyncio.create_task(backend.queue.read({0: START}, 10, SOON))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    await backend.queue.publish(0, [command("c")])
    assert names(await read(backend)) == ["c"]


async def test_read_values_can_be_changed_without_harm(backend: Backend) -> None:
    await backend.queue.publish(0, [command("c")])
    (entry,) = await read(backend)
    assert isinstance(entry.fields, dict)
    entry.fields.clear()
    assert names(await read(backend)) == ["c"]
