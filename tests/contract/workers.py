"""Separate workers, each with its own connections, in this event loop."""

import asyncio

from tests.contract.deployments import Opens

from turnstream.catalogue import default_catalogue
from turnstream.ports import Backend
from turnstream.worker.worker import Worker


class RunningWorker:
    """A worker in a task."""

    def __init__(self, backend: Backend, worker: Worker) -> None:
        self.backend = backend
        self.task = asyncio.create_task(worker.run())
        self._worker = worker

    @property
    def owned(self) -> set[int]:
        return set(self._worker._member._leases.owned)

    @property
    def worker_id(self) -> str:
        return self._worker.worker_id

    async def stop(self) -> None:
        """Stop as on SIGTERM; a second time does nothing."""
        self._worker.stop()
        await self.task
        await self.backend.aclose()

    async def crash(self) -> None:
        """End at once, as if the process was killed: nothing is finished, nothing released."""
        self._worker._member._leave = _nothing  # type: ignore[method-assign]
        self.task.cancel()
        await asyncio.wait([self.task])
        for partition in self._worker._member._leases._tasks.values():
            partition.cancel()
        await self.backend.aclose()


async def worker_of(deployment: Opens) -> RunningWorker:
    """Start a worker, until the test is over."""
    backend = await deployment.open()
    worker = Worker(backend, deployment.settings, default_catalogue())
    running = RunningWorker(backend, worker)
    deployment.resources.push_async_callback(_ended, running)
    ready = asyncio.ensure_future(worker.ready.wait())
    await asyncio.wait([ready, running.task], return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        await running.task
    return running


async def _ended(running: RunningWorker) -> None:
    if running.task.done():
        await running.backend.aclose()
    else:
        await running.stop()


async def _nothing() -> None:
    pass
