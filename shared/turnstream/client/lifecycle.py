"""The three ways to open a client: the composition roots of the library (design §10).

Each imports its adapter when it is called: `import turnstream` would take three times as long with redis-py.
"""
# ruff: noqa: PLC0415 - see above

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from turnstream.catalogue import ModelCatalogue, default_catalogue
from turnstream.ports import Backend
from turnstream.settings import Settings, load_settings


class AsyncClosable(Protocol):
    """Something to be closed."""

    async def aclose(self) -> None:
        """Close it."""
        ...


ClientT = TypeVar("ClientT", bound=AsyncClosable)


class PendingClient(Generic[ClientT]):
    """A client about to be opened: await it, and close the client yourself, or enter it."""

    def __init__(self, opening: Callable[[], Awaitable[ClientT]]) -> None:
        """Open by this call, not before."""
        self._opening = opening
        self._opened: ClientT | None = None

    def __await__(self) -> Generator[object, None, ClientT]:
        """Open the client."""
        return self._open().__await__()

    async def __aenter__(self) -> ClientT:
        """Open the client."""
        self._opened = await self._opening()
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        """Close the client."""
        if self._opened is not None:
            await self._opened.aclose()

    async def _open(self) -> ClientT:
        return await self._opening()


Opened = tuple[Backend, Settings, AsyncExitStack]
"""A deployment, how it is used, and what is to be closed with it."""


async def connected(url: str | None, settings: Settings | None) -> Opened:
    """Connect to a server where workers run elsewhere."""
    from turnstream.adapters.redis.backend import RedisBackend

    settings = settings or load_settings()
    settings = settings.at(url) if url is not None else settings
    async with AsyncExitStack() as resources:
        backend = await RedisBackend.open(settings, "turnstream-client")
        resources.push_async_callback(backend.aclose)
        return backend, settings, resources.pop_all()


async def embedded(directory: str | Path | None, settings: Settings | None) -> Opened:
    """Start a server and a worker in this event loop."""
    from turnstream.adapters.embedded import EmbeddedServer
    from turnstream.adapters.redis.backend import RedisBackend

    async with AsyncExitStack() as resources:
        server = await EmbeddedServer.start(None if directory is None else Path(directory))
        resources.push_async_callback(server.aclose)
        settings = (settings or load_settings()).without_credentials().at(server.url)
        backend = await RedisBackend.open(settings, "turnstream-embedded", throw_away=directory is None, works=True)
        resources.push_async_callback(backend.aclose)
        await _start_worker(backend, settings, resources)
        return backend, settings, resources.pop_all()


async def in_memory(settings: Settings | None) -> Opened:
    """Keep everything in this process, with a worker in this event loop."""
    from turnstream.adapters.memory.backend import MemoryBackend
    from turnstream.adapters.memory.parked_events import ParkedEventLimits
    from turnstream.adapters.memory.retention import EventLimits

    settings = settings or load_settings()
    async with AsyncExitStack() as resources:
        backend = MemoryBackend(
            settings.partitions,
            max_backlog=settings.max_backlog,
            deduplication_window=settings.deduplication_window,
            parked_events=ParkedEventLimits(settings.parked_events, settings.parked_event_bytes),
            event_limits=EventLimits(
                settings.event_retention, settings.event_retention_age, settings.event_retention_bytes
            ),
        )
        resources.push_async_callback(backend.aclose)
        await _start_worker(backend, settings, resources)
        return backend, settings, resources.pop_all()


def catalogue_of(settings: Settings) -> ModelCatalogue:
    """Return the catalogue that the settings ask for."""
    return ModelCatalogue.from_file(settings.catalogue_file) if settings.catalogue_file else default_catalogue()


async def _start_worker(backend: Backend, settings: Settings, resources: AsyncExitStack) -> None:
    from turnstream.worker.worker import Worker

    worker = Worker(backend, settings, catalogue_of(settings))
    task = asyncio.create_task(worker.run(), name="turnstream-worker")

    async def stop() -> None:
        worker.stop()
        await task

    resources.push_async_callback(stop)
    ready = asyncio.create_task(worker.ready.wait())
    await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        await task
