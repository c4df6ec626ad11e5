"""A program that blocks its threads delays no task of the library."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis import Redis
from tests.contract.chats import CONFIG, id_in
from tests.integration.test_tls import encrypted, written

from turnstream import AddMessage, CreateSession, ResyncRequired, Settings, Turnstream, Unavailable, sync, user_message
from turnstream.adapters.embedded import EmbeddedServer
from turnstream.adapters.redis.connection import name_resolution
from turnstream.errors import ConfigurationError
from turnstream.events import Event, SessionCreated

PARTITIONS = 16
LEASE = 3.0
SETTINGS = Settings(partitions=PARTITIONS, lease=LEASE)
BUSY = 40
"""More calls than the default executor of an event loop has threads."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server with a worker, by its name, which has to be looked up."""
    with sync.Turnstream.embedded(settings=SETTINGS) as ts:
        yield ts._target._settings.redis_url.get_secret_value().replace("127.0.0.1", "localhost")


def cut_all(url: str) -> None:
    with Redis.from_url(url, protocol=2) as raw:
        for kind in ("normal", "pubsub"):
            raw.client_kill_filter(_type=kind, skipme=True)


@pytest.fixture
def goes_on() -> Iterator[threading.Event]:
    """Set at the end, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


def test_busy_handlers_hold_up_neither_calls_nor_leases(url: str, goes_on: threading.Event) -> None:
    handled = Counter[str]()
    begun = threading.Semaphore(0)

    def handle(event: Event | ResyncRequired) -> None:
        assert isinstance(event, Event)
        begun.release()
        assert goes_on.wait(60)
        handled[event.session_id] += 1

    sessions = [id_in(partition, PARTITIONS) for partition in range(PARTITIONS)]
    with sync.Turnstream.connect(url, settings=SETTINGS) as ts, ThreadPoolExecutor(1) as pool:
        for session in sessions:
            ts.execute(CreateSession(CONFIG, session))
        subscription = ts.consumer("billing", SessionCreated, start="beginning")
        running = pool.submit(subscription.run, handle)
        try:
            for _ in sessions:
                assert begun.acquire(timeout=30)
            cut_all(url)
            end = time.monotonic() + 3 * LEASE
            while time.monotonic() < end:
                ts.execute(AddMessage(sessions[0], user_message("Hello")))
        finally:
            goes_on.set()
            subscription.stop()
        running.result(30)
    assert handled == dict.fromkeys(sessions, 1)


async def full_of_work(goes_on: threading.Event, then: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do something while the event loop's default executor has no thread to spare."""
    busy = [asyncio.create_task(asyncio.to_thread(goes_on.wait, 60)) for _ in range(BUSY)]
    try:
        await then()
    finally:
        goes_on.set()
        await asyncio.gather(*busy)


async def test_a_full_executor_keeps_no_connection_from_opening(url: str, goes_on: threading.Event) -> None:
    async def used() -> None:
        async with Turnstream.connect(url, settings=SETTINGS) as ts:
            await ts.execute(CreateSession(CONFIG, "s"))
            cut_all(url)
            assert (await ts.execute(AddMessage("s", user_message("Hello")))).version == 2

    await full_of_work(goes_on, used)


async def test_a_full_executor_keeps_no_server_from_starting_and_ending(goes_on: threading.Event) -> None:
    async def used() -> None:
        async with await EmbeddedServer.start() as server:
            assert server.pid

    await full_of_work(goes_on, used)


async def test_the_next_address_of_a_name_is_tried(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def two(*_: object) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async def one(*_: object) -> list[str]:
        return ["127.0.0.2"]

    monkeypatch.setattr(name_resolution, "_addresses", two)
    async with Turnstream.connect(url, settings=SETTINGS) as ts:
        assert await ts.sessions.count() == 0
    monkeypatch.setattr(name_resolution, "_addresses", one)
    with pytest.raises(Unavailable, match="localhost"):
        await Turnstream.connect(url, settings=SETTINGS)


async def test_an_unknown_name_is_reported() -> None:
    with pytest.raises(Unavailable, match=r"nowhere\.invalid"):
        await Turnstream.connect("redis://nowhere.invalid:6379", settings=SETTINGS)


async def test_a_certificate_is_for_the_name_and_not_for_its_address(server: EmbeddedServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    ca = written(authority, tmp_path)
    settings = Settings(namespace="test-names")

    async def count(port: int) -> int:
        async with Turnstream.connect(f"rediss://localhost:{port}?ssl_ca_certs={ca}", settings=settings) as ts:
            return await ts.sessions.count()

    async with encrypted(server, authority, "localhost") as port:
        assert await count(port) == 0
    async with encrypted(server, authority, "127.0.0.1") as port:
        with pytest.raises(ConfigurationError, match="is not trusted"):
            await count(port)
