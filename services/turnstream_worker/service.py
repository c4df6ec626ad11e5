"""One worker in this process: the composition root."""

import asyncio
import gc
from contextlib import aclosing, suppress
from typing import Final

from turnstream.adapters.redis.backend import RedisBackend
from turnstream.backoff import Backoff
from turnstream.catalogue import load_catalogue
from turnstream.errors import Unavailable
from turnstream.logging import get_logger
from turnstream.settings import Settings
from turnstream.worker.worker import Worker
from turnstream_service.stop_requests import StopRequests

log = get_logger(__name__)

CLIENT_NAME: Final = "turnstream-worker"

WARM_UP_MODEL: Final = "gpt-4o"
"""A model whose look-up makes the catalogue read everything it has."""

GARBAGE_THRESHOLD: Final = 50_000
"""Allocations between two looks for cycles: batches make tens of thousands of objects, and hardly a cycle."""


async def serve(settings: Settings, *, stop_at_eof: bool) -> None:
    """Work until asked to stop.

    Raises:
        ConfigurationError: the server, the deployment there or the catalogue does not fit.

    """
    requests = StopRequests()
    work = asyncio.create_task(_work(settings, requests))
    requests.hand_to(work.cancel)
    requests.listen(at_eof=stop_at_eof)
    with suppress(asyncio.CancelledError):
        await work


async def check(settings: Settings) -> None:
    """Raise the errors that `serve` would raise on start-up; the workers wait for a server that does not answer."""
    load_catalogue(settings.catalogue_file)
    with suppress(Unavailable):
        backend = await RedisBackend.open(settings, CLIENT_NAME, works=True)
        await backend.aclose()


async def _work(settings: Settings, requests: StopRequests) -> None:
    catalogue = load_catalogue(settings.catalogue_file)
    async with aclosing(await _opened(settings)) as backend:
        # Its data takes 0.3 s to read: not in the first command's time, and not in the event loop's.
        await asyncio.to_thread(catalogue.context_window, WARM_UP_MODEL, None)
        _calm_garbage_collector()
        worker = Worker(backend, settings, catalogue)
        requests.hand_to(worker.stop)
        await worker.run()


async def _opened(settings: Settings) -> RedisBackend:
    """Open the deployment; a server that cannot be used yet is waited for, as one is that goes away later."""
    backoff = Backoff()
    while True:
        try:
            backend = await RedisBackend.open(settings, CLIENT_NAME, works=True)
        except Unavailable as error:
            if not backoff.failing:
                log.warning("server unavailable", while_="starting", error=str(error))
            await asyncio.sleep(backoff.failed())
        else:
            if backoff.failing:
                log.info("server available")
            return backend


def _calm_garbage_collector() -> None:
    """Leave what is loaded by now out of every collection, and collect less often (5 % of a busy worker's time)."""
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)
