"""The three ways to open a client: composition roots of the library, next to `Worker.connect` (design §10).

Each imports its adapter when it is called: `import turnstream` would take three times as long with redis-py.
"""
# ruff: noqa: PLC0415 - see above

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from turnstream.catalogue import load_catalogue
from turnstream.ports import Backend
from turnstream.settings import Settings, load_settings

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


async def _start_worker(backend: Backend, settings: Settings, resources: AsyncExitStack) -> None:
    from turnstream.worker.worker import Worker

    worker = Worker(backend, settings, load_catalogue(settings.catalogue_file))
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
