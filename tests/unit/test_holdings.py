"""A worker's partitions that cannot be worked on: one log line a change of state, not one an attempt."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.unit.given import SMALL, entry, raw
from tests.unit.test_partition import ROOMY, Counting
from tests.waiting import wait_until

from turnstream.adapters.memory import MemoryBackend
from turnstream.application.commands.decoder import CommandDecoder
from turnstream.application.commands.owner_memory import OwnerMemory, ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.application.queries.query_handler import QueryHandler
from turnstream.catalogue import default_catalogue
from turnstream.domain.commands import CreateSession
from turnstream.errors import Unavailable
from turnstream.ports import Batch, PartitionState, RawEntry
from turnstream.worker import holdings as holdings_module
from turnstream.worker.holdings import PartitionLeases
from turnstream.worker.partition_worker import PartitionWorker

FIRST, SECOND = (raw(entry(CreateSession(SMALL, name), name), n) for n, name in enumerate("st", start=1))


class Away(Counting):
    """A store that can be away."""

    away = False

    async def commit(self, batch: Batch) -> None:
        if self.away:
            raise Unavailable("The slot is on its way")
        await super().commit(batch)


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(1)


@pytest.fixture
def store(backend: MemoryBackend) -> Away:
    return Away(backend)


@pytest.fixture
def holdings(backend: MemoryBackend, store: Away) -> PartitionLeases[PartitionState, PartitionWorker]:
    def processor(state: PartitionState) -> PartitionProcessor:
        intake = CommandDecoder(0, 1, 1_000, lambda _: True)
        memory = OwnerMemory.empty(backend.quarantine, 0, 10, ParkingLimits())
        return PartitionProcessor(state, intake, store, QueryHandler(backend.reader, 1), default_catalogue(), memory)

    def hold(state: PartitionState) -> PartitionWorker:
        return PartitionWorker(processor(state), ROOMY)

    return PartitionLeases("w:1", 1, backend.ownership, hold, asyncio.Event(), 0.001)


async def try_to_apply(holdings: PartitionLeases[PartitionState, PartitionWorker], waiting: RawEntry) -> None:
    """Take the partition if need be, feed it, and wait until it is applied or given up."""
    await holdings.settle()
    owned = holdings.owned[0]
    owned.feed(owned.position, [waiting])
    await wait_until(lambda: not holdings.owned or owned.state.cursor == waiting.entry_id)
    await holdings.keep()


async def test_a_batch_interrupted_repeatedly_is_logged_once(
    holdings: PartitionLeases[PartitionState, PartitionWorker], store: Away, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "turnstream.worker.holdings")

    def told() -> list[str]:
        return [record.message for record in caplog.records if record.message.startswith("partition ")]

    store.away = True
    for _ in range(3):
        await try_to_apply(holdings, FIRST)
    assert told() == ["partition interrupted"]
    store.away = False
    await try_to_apply(holdings, FIRST)
    await holdings.keep()
    assert told() == ["partition interrupted", "partition goes on"]
    store.away = True
    await try_to_apply(holdings, SECOND)
    assert told() == ["partition interrupted", "partition goes on", "partition interrupted"]
    await holdings.give_up([0])


async def test_leases_are_renewed_although_the_registry_is_away(
    holdings: PartitionLeases[PartitionState, PartitionWorker], backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[int] = []

    async def silent(_: str) -> list[str]:
        return await asyncio.Future()

    async def renew(states: Sequence[PartitionState]) -> list[bool]:
        renewed.extend(state.partition for state in states)
        return [True for _ in states]

    await holdings.settle()
    monkeypatch.setattr(backend.ownership, "beat", silent)
    monkeypatch.setattr(backend.ownership, "renew", renew)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await holdings.keep()
    assert renewed == [0]
    await holdings.give_up([0])


async def test_a_partition_without_a_running_task_is_dropped(
    holdings: PartitionLeases[PartitionState, PartitionWorker],
) -> None:
    await holdings.settle()
    working = holdings._tasks[0]
    await asyncio.sleep(0)  # it has begun
    working.cancel()
    await asyncio.wait([working])
    assert (holdings.owned, holdings.take_losses()) == ({}, 1)
    await holdings.settle()
    assert list(holdings.owned) == [0]
    await holdings.give_up([0])


# ── what takes too long ──────────────────────────────────────────────────────────────────────────────────────────────


class Stuck:
    """A partition whose work does not end when it is asked to; `stubborn`, not even when it is cancelled."""

    place = None

    def __init__(self, *, stubborn: bool) -> None:
        self.stubborn = stubborn
        self.began, self.cancelled, self.ends = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def stop(self) -> None:
        """Continue nevertheless."""

    async def run(self) -> None:
        self.began.set()
        try:
            await self.ends.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            while self.stubborn and not self.ends.is_set():
                await asyncio.wait([asyncio.create_task(self.ends.wait())])
            raise


async def held(backend: MemoryBackend, stuck: Stuck) -> PartitionLeases[PartitionState, Stuck]:
    holdings = PartitionLeases("w:1", 1, backend.ownership, lambda _: stuck, asyncio.Event(), 0.001)
    await holdings.settle()
    await stuck.began.wait()
    return holdings


async def test_a_partition_that_is_cut_short_is_released(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdings_module, "HANDOVER", 0.0)
    stuck = Stuck(stubborn=False)
    holdings = await held(backend, stuck)
    assert await backend.ownership.take(0, "w:2") is None
    await holdings.give_up([0])
    assert stuck.cancelled.is_set()
    assert not holdings.owned
    assert await backend.ownership.take(0, "w:2") is not None


async def test_until_its_work_has_ended_a_partition_is_kept(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task would do the same work at the same time, in an unknown order."""
    renewals = 0

    async def renew(states: Sequence[PartitionState]) -> list[bool]:
        nonlocal renewals
        renewals += len(states)
        return [True for _ in states]

    monkeypatch.setattr(backend.ownership, "renew", renew)
    stuck = Stuck(stubborn=True)
    holdings = await held(backend, stuck)
    giving_up = asyncio.create_task(holdings.give_up([0]))
    await wait_until(lambda: renewals > 2)
    monkeypatch.setattr(holdings_module, "HANDOVER", 0.0)
    assert not stuck.cancelled.is_set()
    giving_up.cancel()
    await asyncio.wait([giving_up])
    giving_up = asyncio.create_task(holdings.give_up([0]))
    await stuck.cancelled.wait()
    before = renewals
    await wait_until(lambda: renewals > before + 2)
    assert await backend.ownership.take(0, "w:2") is None
    stuck.ends.set()
    await giving_up
    assert await backend.ownership.take(0, "w:2") is not None


async def test_a_lost_partition_is_acquired_again_after_its_task_has_ended(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the leases of others are renewed, however long that takes."""

    async def lost(states: Sequence[PartitionState]) -> list[bool]:
        return [False for _ in states]

    bell, made = asyncio.Event(), [Stuck(stubborn=True), Stuck(stubborn=False)]
    making = iter(made)
    holdings = PartitionLeases("w:1", 1, backend.ownership, lambda _: next(making), bell, 0.001)
    await holdings.settle()
    await made[0].began.wait()
    with monkeypatch.context() as patch:
        patch.setattr(backend.ownership, "renew", lost)
        await holdings.keep()
    await made[0].cancelled.wait()
    assert (holdings.owned, holdings.take_losses()) == ({}, 1)
    await holdings.settle()
    ended = asyncio.create_task(holdings.ended())
    await asyncio.sleep(0)
    assert (holdings.owned, bell.is_set(), ended.done()) == ({}, False, False)
    made[0].ends.set()
    await bell.wait()
    await ended
    await holdings.settle()
    assert holdings.owned == {0: made[1]}
    await made[1].began.wait()
    made[1].ends.set()
    await holdings.give_up([0])
