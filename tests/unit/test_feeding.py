"""Feeding: one loop reads for all owned partitions, never more than can be held, and follows what is owned."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
from tests.unit.given import CATALOGUE, MAX_BYTES, SMALL, entry, message
from tests.waiting import wait_until

from turnstream.adapters.memory import MemoryBackend
from turnstream.application.commands.decoder import CommandDecoder
from turnstream.application.commands.owner_memory import OwnerMemory, ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.application.queries.query_handler import QueryHandler
from turnstream.domain.commands import AddMessage, AnyCommand, CreateSession
from turnstream.domain.models import SessionInfo, partition_of
from turnstream.ports import START, RawEntry
from turnstream.worker import stream_feeder as feeding_module
from turnstream.worker.partition_worker import BatchLimits, PartitionWorker
from turnstream.worker.stream_feeder import ROUND_BYTES, ROUND_ENTRIES, FairScheduler, ReadSize, StreamFeeder

MOST = 512


def answer(count: int, size: int = 0, partitions: int = 1) -> Mapping[int, Sequence[RawEntry]]:
    one = RawEntry("1-0", {b"data": b"x" * size})
    return {number: [one] * (count // partitions) for number in range(partitions)}


# ── how much to ask for ──────────────────────────────────────────────────────────────────────────────────────────────


def test_at_first_a_whole_batch_is_asked_for() -> None:
    assert ReadSize(MOST).count(partitions=1) == MOST
    assert ReadSize(MOST).count(partitions=64) == MOST


def test_after_large_rounds_less_is_asked_for_and_after_small_ones_more() -> None:
    size = ReadSize(MOST)
    size.saw(answer(ROUND_ENTRIES + 64, partitions=64))
    assert size.count(64) < MOST
    for _ in range(20):
        size.saw(answer(ROUND_ENTRIES * 2, partitions=64))
    assert size.count(64) == 1
    for _ in range(20):
        size.saw(answer(1))
    assert size.count(64) == MOST


@pytest.mark.parametrize("partitions", [1, 8, 64])
def test_a_round_of_large_entries_stays_within_its_bytes(partitions: int) -> None:
    size = ReadSize(MOST)
    for _ in range(20):
        size.saw(answer(8 * partitions, 100_000, partitions))
    assert 1 <= size.count(partitions) <= max(1, ROUND_BYTES // (100_000 * partitions))


def test_small_entries_after_large_ones_are_read_in_large_rounds_again() -> None:
    size = ReadSize(MOST)
    for _ in range(10):
        size.saw(answer(8, 1_000_000))
    low = size.count(8)
    for _ in range(40):
        size.saw(answer(8, 100))
    assert low < size.count(8) == MOST


def test_empty_reads_leave_the_known_sizes_unchanged() -> None:
    size = ReadSize(MOST)
    for _ in range(20):
        size.saw(answer(8, 1_000_000))
    before = size.count(64)
    size.saw({})
    assert size.count(64) == before == 1


# ── who is read together ─────────────────────────────────────────────────────────────────────────────────────────────


def test_partitions_with_more_than_a_read_brings_take_turns_and_the_others_are_always_read() -> None:
    turns = FairScheduler()
    partitions = range(6)
    assert turns.left_out(partitions, 2) == []
    full = answer(40, partitions=4)
    turns.saw(partitions, full, count=10)
    seen: list[set[int]] = []
    for _ in range(4):
        chosen = set(partitions).difference(turns.left_out(partitions, 2))
        seen.append(chosen)
        turns.saw(chosen, {number: full[number] for number in chosen if number < 4}, count=10)
    assert seen == [{0, 1, 4, 5}, {2, 3, 4, 5}, {0, 1, 4, 5}, {2, 3, 4, 5}]


def test_a_partition_that_has_caught_up_waits_for_no_turn() -> None:
    turns = FairScheduler()
    turns.saw(range(4), answer(40, partitions=4), count=10)
    turns.saw([3], {3: answer(9)[0]}, count=10)
    assert set(turns.left_out(range(4), 1)) == {1, 2}


def test_a_partition_that_caught_up_has_no_turn() -> None:
    """Whether it brought nothing more, or brought its last and has no room by now."""
    turns = FairScheduler()
    turns.saw([0, 1, 2], answer(30, partitions=3), count=10)
    assert set(turns.left_out(range(3), 0)) == {0, 1, 2}
    turns.saw([1], {0: answer(3)[0]}, count=10)
    assert turns.left_out(range(3), 0) == [2]


def test_a_turn_is_not_spent_on_a_partition_that_cannot_be_read_now() -> None:
    turns = FairScheduler()
    turns.saw(range(4), answer(40, partitions=4), count=10)
    assert turns.left_out([2, 3], 1) == [3]


# ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(4)


async def own(backend: MemoryBackend, number: int, limits: BatchLimits) -> PartitionWorker:
    state = await backend.ownership.take(number, "worker-1")
    assert state is not None
    intake = CommandDecoder(number, 4, MAX_BYTES, partial(backend.channels.is_reply_channel, number))
    answers = QueryHandler(backend.reader, 4)
    memory = OwnerMemory.empty(backend.quarantine, number, 10, ParkingLimits())
    return PartitionWorker(PartitionProcessor(state, intake, backend.store, answers, CATALOGUE, memory), limits)


@asynccontextmanager
async def feeding(backend: MemoryBackend, owned: Mapping[int, PartitionWorker]) -> AsyncGenerator[StreamFeeder, None]:
    feeder = StreamFeeder(backend.queue, owned, 16)
    task = asyncio.create_task(feeder.run())
    yield feeder
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def session_in(number: int) -> str:
    return next(name for name in map(str, range(1_000)) if partition_of(name, 4) == number)


async def send(backend: MemoryBackend, number: int, count: int = 1, first: int = 0) -> None:
    session_id = session_in(number)
    commands: list[AnyCommand] = [] if first else [CreateSession(SMALL, session_id)]
    commands += [AddMessage(session_id, message(f"m{first + i}")) for i in range(count - len(commands))]
    await backend.queue.publish(number, [entry(c, f"c{first + i}", None) for i, c in enumerate(commands)])


async def applied(backend: MemoryBackend, number: int) -> int:
    info = (await backend.reader.infos([session_in(number)]))[0]
    return info.message_count + 1 if isinstance(info, SessionInfo) else 0


LIMITS = BatchLimits(commands=16, size=1_000_000)


async def test_commands_of_all_owned_partitions_are_applied(backend: MemoryBackend) -> None:
    owned = {number: await own(backend, number, LIMITS) for number in (0, 2)}
    tasks = [asyncio.create_task(each.run()) for each in owned.values()]
    async with feeding(backend, owned):
        for number in range(4):
            await send(backend, number, 40)
        await wait_until(lambda: _all_of(backend, {0: 40, 2: 40}))
        assert [await applied(backend, number) for number in (1, 3)] == [0, 0]
    for each in owned.values():
        each.stop()
    await asyncio.gather(*tasks)


async def _all_of(backend: MemoryBackend, wanted: Mapping[int, int]) -> bool:
    return all([await applied(backend, number) == count for number, count in wanted.items()])


async def test_a_read_never_exceeds_the_room_of_an_inbox(backend: MemoryBackend) -> None:
    """Partition 0 does not run, so its inbox fills; partition 1 is fed nevertheless."""
    stuck, lively = await own(backend, 0, BatchLimits(4, 1_000_000)), await own(backend, 1, LIMITS)
    task = asyncio.create_task(lively.run())
    async with feeding(backend, {0: stuck, 1: lively}):
        await send(backend, 0, 100)
        await send(backend, 1, 100)
        await wait_until(lambda: _all_of(backend, {1: 100}))
        assert not stuck.has_room
        waiting = await backend.queue.read({0: stuck.position}, 1_000, 0.0)
        assert len(waiting[0]) == 100 - 16
    lively.stop()
    await task


async def test_one_that_had_no_room_is_read_again_when_another_was_lost_without_a_wake(backend: MemoryBackend) -> None:
    owned = {0: await own(backend, 0, LIMITS), 1: await own(backend, 1, LIMITS)}
    late = owned[0]
    async with feeding(backend, owned):
        await send(backend, 0, 40)
        await wait_until(lambda: not late.has_room)
        await asyncio.sleep(feeding_module.SHORT_BLOCK)
        del owned[1]
        task = asyncio.create_task(late.run())
        await wait_until(lambda: _all_of(backend, {0: 40}))
    late.stop()
    await task


async def test_a_partition_that_is_owned_later_is_fed_after_a_wake(backend: MemoryBackend) -> None:
    owned: dict[int, PartitionWorker] = {}
    async with feeding(backend, owned) as feeder:
        await send(backend, 3, 5)
        owned[3] = await own(backend, 3, LIMITS)
        task = asyncio.create_task(owned[3].run())
        await feeder.wake()
        await wait_until(lambda: _all_of(backend, {3: 5}))
    owned[3].stop()
    await task


async def test_a_partition_acquired_again_is_fed_from_its_cursor(backend: MemoryBackend) -> None:
    """As after a loss: the entries in its former owner's inbox were not applied."""
    owned = {0: await own(backend, 0, LIMITS)}
    async with feeding(backend, owned) as feeder:
        await send(backend, 0, 5)
        await wait_until(lambda: owned[0].position != START)
        owned[0] = await own(backend, 0, LIMITS)
        task = asyncio.create_task(owned[0].run())
        await feeder.wake()
        await wait_until(lambda: _all_of(backend, {0: 5}))
    owned[0].stop()
    await task


async def test_a_wake_ends_a_read_that_waits_for_others(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding_module, "BLOCK", 3_600.0)
    owned = {0: await own(backend, 0, LIMITS)}
    async with feeding(backend, owned) as feeder:
        await asyncio.sleep(0)
        await send(backend, 3, 5)
        owned[3] = await own(backend, 3, LIMITS)
        task = asyncio.create_task(owned[3].run())
        await feeder.wake()
        await wait_until(lambda: _all_of(backend, {3: 5}))
    owned[3].stop()
    await task


async def test_entries_read_for_a_released_partition_are_dropped(backend: MemoryBackend) -> None:
    owned = {0: await own(backend, 0, LIMITS), 1: await own(backend, 1, LIMITS)}
    given_up = owned[0]
    async with feeding(backend, owned):
        await asyncio.sleep(0)
        del owned[0]
        await send(backend, 0, 5)
        await send(backend, 1, 1)
        await wait_until(lambda: owned[1].position != START)
    assert given_up.position == START


async def test_a_loop_that_is_stopped_ends_even_if_its_cancellation_is_swallowed(backend: MemoryBackend) -> None:
    feeder = StreamFeeder(backend.queue, {0: await own(backend, 0, LIMITS)}, 16)
    task = asyncio.create_task(feeder.run())
    await asyncio.sleep(0)
    feeder.stop()
    await feeder.wake()
    await wait_until(task.done)
