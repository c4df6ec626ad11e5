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
from turnstream.worker import partition_leases
from turnstream.worker.partition_leases import PartitionLeases
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
def leases(backend: MemoryBackend, store: Away) -> PartitionLeases[PartitionState, PartitionWorker]:
    def processor(state: PartitionState) -> PartitionProcessor:
        intake = CommandDecoder(0, 1, 1_000, lambda _: True)
        memory = OwnerMemory.empty(backend.quarantine, 0, 10, ParkingLimits())
        return PartitionProcessor(state, intake, store, QueryHandler(backend.reader, 1), default_catalogue(), memory)

    def new_task(state: PartitionState) -> PartitionWorker:
        return PartitionWorker(processor(state), ROOMY)

    return PartitionLeases("w:1", 1, backend.ownership, new_task, 0.001)


async def try_to_apply(leases: PartitionLeases[PartitionState, PartitionWorker], waiting: RawEntry) -> None:
    """Take the partition if need be, feed it, and wait until it is applied or given up."""
    await leases.rebalance()
    owned = leases.owned[0]
    owned.feed(owned.position, [waiting])
    await wait_until(lambda: not leases.owned or owned.state.cursor == waiting.entry_id)
    await leases.renew()


async def test_a_batch_interrupted_repeatedly_is_logged_once(
    leases: PartitionLeases[PartitionState, PartitionWorker], store: Away, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "turnstream.worker.partition_leases")

    def told() -> list[str]:
        return [record.message for record in caplog.records if record.message.startswith("partition ")]

    store.away = True
    for _ in range(3):
        await try_to_apply(leases, FIRST)
    assert told() == ["partition interrupted"]
    store.away = False
    await try_to_apply(leases, FIRST)
    await leases.renew()
    assert told() == ["partition interrupted", "partition goes on"]
    store.away = True
    await try_to_apply(leases, SECOND)
    assert told() == ["partition interrupted", "partition goes on", "partition interrupted"]
    await leases.release([0])


async def test_leases_are_renewed_although_the_registry_is_away(
    leases: PartitionLeases[PartitionState, PartitionWorker], backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[int] = []

    async def silent(_: str) -> list[str]:
        return await asyncio.Future()

    async def renew(states: Sequence[PartitionState]) -> list[bool]:
        renewed.extend(state.partition for state in states)
        return [True for _ in states]

    await leases.rebalance()
    monkeypatch.setattr(backend.ownership, "beat", silent)
    monkeypatch.setattr(backend.ownership, "renew", renew)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await leases.renew()
    assert renewed == [0]
    await leases.release([0])


async def test_a_partition_without_a_running_task_is_dropped(
    leases: PartitionLeases[PartitionState, PartitionWorker],
) -> None:
    await leases.rebalance()
    working = leases._tasks[0]
    await asyncio.sleep(0)  # it has begun
    working.cancel()
    await asyncio.wait([working])
    assert (leases.owned, leases.take_losses()) == ({}, 1)
    await leases.rebalance()
    assert list(leases.owned) == [0]
    await leases.release([0])


# ── what takes too long ──────────────────────────────────────────────────────────────────────────────────────────────


class Stuck:
    """A partition whose work does not end when it is asked to; `stubborn`, not even when it is cancelled."""

    progress = None

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
    leases = PartitionLeases("w:1", 1, backend.ownership, lambda _: stuck, 0.001)
    await leases.rebalance()
    await stuck.began.wait()
    return leases


async def test_a_partition_that_is_cut_short_is_released(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_leases, "HANDOVER_S", 0.0)
    stuck = Stuck(stubborn=False)
    leases = await held(backend, stuck)
    assert await backend.ownership.take(0, "w:2") is None
    await leases.release([0])
    assert stuck.cancelled.is_set()
    assert not leases.owned
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
    leases = await held(backend, stuck)
    giving_up = asyncio.create_task(leases.release([0]))
    await wait_until(lambda: renewals > 2)
    monkeypatch.setattr(partition_leases, "HANDOVER_S", 0.0)
    assert not stuck.cancelled.is_set()
    giving_up.cancel()
    await asyncio.wait([giving_up])
    giving_up = asyncio.create_task(leases.release([0]))
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

    made = [Stuck(stubborn=True), Stuck(stubborn=False)]
    making = iter(made)
    leases = PartitionLeases("w:1", 1, backend.ownership, lambda _: next(making), 0.001)
    await leases.rebalance()
    await made[0].began.wait()
    with monkeypatch.context() as patch:
        patch.setattr(backend.ownership, "renew", lost)
        await leases.renew()
    await made[0].cancelled.wait()
    assert (leases.owned, leases.take_losses()) == ({}, 1)
    await leases.rebalance()
    ended = asyncio.create_task(leases.ended())
    await asyncio.sleep(0)
    assert (leases.owned, leases.due.is_set(), ended.done()) == ({}, False, False)
    made[0].ends.set()
    await leases.due.wait()
    await ended
    await leases.rebalance()
    assert leases.owned == {0: made[1]}
    await made[1].began.wait()
    made[1].ends.set()
    await leases.release([0])
