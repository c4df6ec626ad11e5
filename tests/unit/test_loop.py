"""The worker's loops: whatever they wait for, a request to stop ends it."""

import asyncio
from collections import Counter

import pytest
from tests.waiting import wait_until

from turnstream.adapters.memory import MemoryBackend
from turnstream.backoff import Backoff
from turnstream.catalogue import default_catalogue
from turnstream.errors import Unavailable
from turnstream.settings import Settings
from turnstream.worker import member, stream_feeder
from turnstream.worker.worker import Worker


class Endless(Backoff):
    """A backoff that does not sleep."""

    begun = 0

    def failed(self) -> float:
        Endless.begun += 1
        return super().failed() * 1_000_000


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(member, "Backoff", Endless)
    Endless.begun = 0
    return Worker(MemoryBackend(1), Settings(lease=0.1), default_catalogue())


async def test_a_worker_stops_at_once_while_the_server_is_away(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> bool:
        raise Unavailable("away")

    monkeypatch.setattr(worker._member._leases, "rebalance", away)
    await stops(worker)


async def test_a_worker_stops_at_once_while_it_waits_to_acquire_lost_partitions(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker._member._leases, "take_losses", lambda: 1)
    await stops(worker)


async def test_a_loop_that_just_returns_leaves_others_their_turn(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    async def returns() -> None:
        nonlocal calls
        calls += 1
        assert calls < 1000, "nobody else had a turn"

    monkeypatch.setattr(worker._feeder, "run", returns)
    running = asyncio.create_task(worker.run())
    await wait_until(lambda: calls > 1)
    worker.stop()
    await running


async def test_a_worker_departs_although_it_could_not_release(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(_: object) -> None:
        raise Unavailable("away")

    backend = MemoryBackend(1)
    worker = Worker(backend, Settings(), default_catalogue())
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    monkeypatch.setattr(backend.ownership, "release", away)
    worker.stop()
    await running
    assert await backend.ownership.beat("other") == ["other"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "left without releasing all partitions: their leases expire"
    ]


class Brief(Backoff):
    """A backoff that is over at once."""

    def failed(self) -> float:
        return super().failed() * 0


async def test_a_hanging_server_is_logged_once_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without answers each attempt takes long, as long as one that succeeded for a while."""
    monkeypatch.setattr(member, "LONGEST", 0.0)
    monkeypatch.setattr(member, "Backoff", Brief)
    monkeypatch.setattr(member, "WATCH_EVERY", 0.0)
    monkeypatch.setattr(stream_feeder, "BLOCK", 0.001)
    backend = MemoryBackend(1)
    hanging = asyncio.Event()
    calls = Counter[str]()

    def hangs(part: object, name: str) -> None:
        call = getattr(part, name)

        async def may_hang(*arguments: object) -> object:
            await asyncio.sleep(0)
            calls[name] += 1
            if hanging.is_set():
                raise Unavailable("hanging")
            return await call(*arguments)

        monkeypatch.setattr(part, name, may_hang)

    for name in ("beat", "watch", "renew"):
        hangs(backend.ownership, name)
    hangs(backend.queue, "read")
    worker = Worker(backend, Settings(lease=0.01), default_catalogue())
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    for times in (1, 2):
        for change in (hanging.set, hanging.clear):
            change()
            calls.clear()
            await wait_until(lambda: len(calls) == 4 and min(calls.values()) > 10)
        lines = [vars(record)["while_"] for record in caplog.records if record.message == "server unavailable"]
        whiles = ("keeping partitions", "watching another member", "renewing leases", "reading commands")
        assert Counter(lines) == dict.fromkeys(whiles, times)
    worker.stop()
    await running


async def stops(worker: Worker) -> None:
    running = asyncio.create_task(worker.run())
    await wait_until(lambda: Endless.begun > 0)
    worker.stop()
    await wait_until(running.done)
    await running
