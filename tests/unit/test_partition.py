"""One partition in the hands of its owner: an inbox, and batches out of it, bounded by commands and by bytes."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from tests.unit.given import SMALL, entry, message, owner, raw
from tests.waiting import wait_until

from turnstream.adapters.memory import MemoryBackend
from turnstream.application.commands.decoder import CommandDecoder
from turnstream.domain.commands import AddMessage, AnyCommand, CreateSession, GetSession
from turnstream.ports import START, Batch, Loaded, MessageRange, Needs, RawEntry
from turnstream.signals import BatchRefused, Fenced
from turnstream.worker.partition_worker import BatchLimits, PartitionWorker, entry_size

ROOMY = BatchLimits(commands=100, size=1_000_000)


class Counting:
    """The store of a backend, which counts the commands of each commit; closed, it lets none through."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._store = backend.store
        self.commits: list[int] = []
        self.open = asyncio.Event()
        self.open.set()

    async def load(self, partition: int, needs: Needs) -> Loaded:
        return await self._store.load(partition, needs)

    async def commit(self, batch: Batch) -> None:
        await self.open.wait()
        await self._store.commit(batch)
        self.commits.append(len(batch.outcomes))


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(1)


@pytest.fixture
def store(backend: MemoryBackend) -> Counting:
    return Counting(backend)


@asynccontextmanager
async def running(
    backend: MemoryBackend, store: Counting, limits: BatchLimits
) -> AsyncGenerator[PartitionWorker, None]:
    """Own the partition, and give it up at the end."""
    owned = PartitionWorker(await owner(backend, store), limits)
    task = asyncio.create_task(owned.run())
    yield owned
    owned.stop()
    await task


def entries(count: int, first: int = 1, text: str = "") -> list[RawEntry]:
    commands: list[AnyCommand] = [CreateSession(SMALL, "s")] if first == 1 else []
    commands += [AddMessage("s", message(f"m{number}", text)) for number in range(first, first + count - len(commands))]
    return [raw(entry(command, f"c{first + i}"), first + i) for i, command in enumerate(commands)]


async def test_arriving_commands_are_applied(backend: MemoryBackend, store: Counting) -> None:
    async with running(backend, store, ROOMY) as owned:
        owned.feed(START, entries(3))
        await wait_until(lambda: owned.state.cursor == entries(3)[-1].entry_id)
        owned.feed(owned.position, entries(2, first=4))
        await wait_until(lambda: store.commits == [3, 2])
    assert await backend.reader.count() == 1


async def test_a_batch_has_no_more_commands_than_it_may(backend: MemoryBackend, store: Counting) -> None:
    async with running(backend, store, BatchLimits(commands=4, size=1_000_000)) as owned:
        owned.feed(START, entries(10))
        await wait_until(lambda: sum(store.commits) == 10)
    assert store.commits == [4, 4, 2]


async def test_a_batch_has_no_more_bytes_than_it_may(backend: MemoryBackend, store: Counting) -> None:
    waiting = entries(7, text="x" * 1_000)
    size = entry_size(waiting[-1])
    async with running(backend, store, BatchLimits(commands=100, size=3 * size)) as owned:
        owned.feed(START, waiting)
        await wait_until(lambda: sum(store.commits) == 7)
    assert store.commits == [3, 3, 1]


async def test_a_larger_command_is_a_separate_batch(backend: MemoryBackend, store: Counting) -> None:
    large = raw(entry(AddMessage("s", message("large", "x" * 1_000)), "large"), 3)
    waiting = [*entries(2), large, *entries(2, first=4)]
    async with running(backend, store, BatchLimits(commands=100, size=500)) as owned:
        owned.feed(START, waiting)
        await wait_until(lambda: sum(store.commits) == 5)
    assert store.commits == [2, 1, 2]


async def test_a_single_command_is_never_held_back(backend: MemoryBackend, store: Counting) -> None:
    async with running(backend, store, ROOMY) as owned:
        owned.feed(START, entries(1))
        await wait_until(lambda: store.commits == [1])


async def test_an_answer_to_a_superseded_request_is_dropped(backend: MemoryBackend, store: Counting) -> None:
    async with running(backend, store, BatchLimits(commands=4, size=1_000_000)) as owned:
        owned.feed(START, entries(3))
        owned.feed(START, entries(3))
        owned.feed(owned.position, [])
        assert owned.has_room
        assert owned.position == entries(3)[-1].entry_id
        await wait_until(lambda: store.commits == [3])


async def test_an_inbox_with_a_whole_batch_has_no_room(backend: MemoryBackend, store: Counting) -> None:
    async with running(backend, store, BatchLimits(commands=4, size=1_000_000)) as owned:
        store.open.clear()
        room = [owned.has_room]
        owned.feed(START, entries(4))
        room.append(owned.has_room)
        await wait_until(lambda: owned.has_room)
        owned.feed(owned.position, entries(4, first=5))
        room.append(owned.has_room)
        store.open.set()
        await wait_until(lambda: store.commits == [4, 4])
        assert [*room, owned.has_room] == [True, False, False, True]


async def test_stopping_finishes_the_current_batch_and_begins_no_other(backend: MemoryBackend, store: Counting) -> None:
    store.open.clear()
    async with running(backend, store, BatchLimits(commands=4, size=1_000_000)) as owned:
        owned.feed(START, entries(4))
        await wait_until(lambda: owned.has_room)
        owned.feed(owned.position, entries(3, first=5))
        owned.stop()
        assert not owned.has_room
        store.open.set()
    assert (store.commits, owned.state.cursor) == ([4], entries(4)[-1].entry_id)


async def test_commands_arriving_with_the_stop_are_left_to_the_next_owner(
    backend: MemoryBackend, store: Counting
) -> None:
    async with running(backend, store, ROOMY) as owned:
        await asyncio.sleep(0)
        owned.feed(START, entries(3))
        owned.stop()
    assert (store.commits, owned.state.cursor) == ([], START)


async def test_stopping_an_idle_partition_ends_it(backend: MemoryBackend, store: Counting) -> None:
    async with running(backend, store, ROOMY):
        pass
    assert store.commits == []


class Refusing(Counting):
    """Takes one commit, then none for a while."""

    refusals = 3

    async def commit(self, batch: Batch) -> None:
        if self.commits and self.refusals:
            self.refusals -= 1
            raise BatchRefused(0, "an index is a string")
        await super().commit(batch)


async def test_a_refused_batch_continues_after_the_applied_commands(backend: MemoryBackend) -> None:
    """A query cuts it into pieces, of which the first is committed."""
    store = Refusing(backend)
    waiting = [*entries(2), raw(entry(GetSession("s"), "query"), 3), *entries(2, first=4)]
    async with running(backend, store, ROOMY) as owned:
        owned.feed(START, waiting)
        await wait_until(lambda: owned.state.cursor == waiting[-1].entry_id)
    assert (store.commits, store.refusals) == ([2, 0, 2], 0)
    assert len((await backend.reader.messages("s", MessageRange()))[1]) == 3


async def test_a_bug_outside_the_decision_is_logged_once_without_the_message(
    backend: MemoryBackend, store: Counting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = 0

    def buggy(self: CommandDecoder, entry: RawEntry) -> None:
        nonlocal met
        met += 1
        raise RuntimeError(f"a bug on {entry}")

    async with running(backend, store, ROOMY) as owned:
        with monkeypatch.context() as bug:
            bug.setattr(CommandDecoder, "read", buggy)
            owned.feed(START, entries(2, text="a secret"))
            await wait_until(lambda: met >= 3)
        await wait_until(lambda: store.commits == [2])
    first, second = (vars(record) for record in caplog.records)
    assert (first["msg"], second["msg"]) == ("partition cannot be written", "partition can be written again")
    assert first["reason"] == "The worker failed on it: RuntimeError"
    assert re.match(r"test_partition\.py:\d+ buggy < processor\.py:\d+ ", first["where"])
    assert "a secret" not in str(first)


async def test_losing_the_partition_ends_it(backend: MemoryBackend, store: Counting) -> None:
    owned = PartitionWorker(await owner(backend, store), ROOMY)
    await owner(backend)
    owned.feed(START, entries(1))
    with pytest.raises(Fenced):
        await owned.run()


def test_the_size_of_an_entry_is_that_of_its_data() -> None:
    assert entry_size(RawEntry("1-0", {b"id": b"c1", b"data": b"12345"})) == 5
    assert entry_size(RawEntry("1-0", {})) == 0
