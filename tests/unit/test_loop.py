"""The worker's loops: whatever they wait for, a request to stop ends it."""

import asyncio

import pytest
from tests.waiting import wait_until

from turnstream.adapters.memory import MemoryBackend
from turnstream.backoff import Backoff
from turnstream.catalogue import default_catalogue
from turnstream.errors import Unavailable
from turnstream.settings import Settings
from turnstream.worker import loop
from turnstream.worker.loop import Worker


class Endless(Backoff):
    """A backoff that nobody waits out."""

    begun = 0

    def failed(self) -> float:
        Endless.begun += 1
        return super().failed() * 1_000_000


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(loop, "Backoff", Endless)
    Endless.begun = 0
    return Worker(MemoryBackend(1), Settings(lease=0.1), default_catalogue())


async def test_a_worker_stops_at_once_while_the_server_is_away(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> bool:
        raise Unavailable("away")

    monkeypatch.setattr(worker._holdings, "settle", away)
    await stops(worker)


async def test_a_worker_stops_at_once_while_it_waits_to_take_what_it_lost(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker._holdings, "take_losses", lambda: 1)
    await stops(worker)


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
        "left without releasing all: the leases run out by themselves"
    ]


async def stops(worker: Worker) -> None:
    running = asyncio.create_task(worker.run())
    await wait_until(lambda: Endless.begun > 0)
    worker.stop()
    await wait_until(running.done)
    await running
