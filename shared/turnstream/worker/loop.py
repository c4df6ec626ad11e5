"""The worker, put together: one loop reads, one task a partition applies, one keeps what is owned (design §3, §5)."""

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog

from turnstream.application.answers import Answers
from turnstream.application.cache import OwnerMemory
from turnstream.application.intake import Intake
from turnstream.application.parking import ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.backoff import LONGEST, Backoff
from turnstream.domain.pricing import Catalogue
from turnstream.errors import Unavailable
from turnstream.ports import Backend, PartitionState
from turnstream.settings import Settings
from turnstream.telemetry import get_logger
from turnstream.worker.feeding import Feeder
from turnstream.worker.ownership import Holdings
from turnstream.worker.partition import BatchLimits

log = get_logger(__name__)

RENEWALS = 4
"""How often a lease is renewed within its time."""

WATCH_EVERY = 0.4
"""Seconds between two looks at the worker next to this one."""

TIDY_EVERY = 2.0
"""Seconds between two looks at what retention may take."""


class Worker:
    """Applies commands until it is stopped.

    `run` it in a task; `stop` makes it finish the batches in hand, release its partitions and end.
    """

    def __init__(self, backend: Backend, settings: Settings, catalogue: Catalogue) -> None:
        """Take a deployment, and how to work on it; nothing is started yet."""
        instance = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
        self.worker_id = f"{instance}:{secrets.token_hex(3)}"
        self._backend = backend
        self._settings = settings
        self._catalogue = catalogue
        limits = BatchLimits(settings.batch_commands, settings.batch_bytes)
        self._bell = asyncio.Event()
        self._holdings = Holdings(self.worker_id, backend, self._processor, limits, self._bell)
        self._feeder = Feeder(backend.queue, self._holdings.owned, settings.batch_commands)
        self._answers = Answers(backend.reader, backend.partitions)
        self._stopping = False
        self._stopped = asyncio.Event()
        self.ready = asyncio.Event()
        """Set when the worker has looked for the first time at what it may own."""

    def stop(self) -> None:
        """Finish what is in hand and end `run`."""
        self._stopping = True
        self._stopped.set()
        self._bell.set()

    async def run(self) -> None:
        """Work until stopped; a server that goes away is waited for."""
        with structlog.contextvars.bound_contextvars(worker=self.worker_id):
            log.info("worker started", partitions=self._backend.partitions)
            try:
                async with asyncio.TaskGroup() as tasks:
                    loops = [
                        tasks.create_task(self._forever("reading commands", self._feeder.run)),
                        tasks.create_task(self._forever("listening for changes", self._listen)),
                        tasks.create_task(self._forever("renewing leases", self._renew)),
                        tasks.create_task(self._forever("watching another worker", self._watch)),
                        tasks.create_task(self._forever("tidying", self._tidy)),
                    ]
                    await self._forever("keeping partitions", self._keep)
                    self._feeder.stop()
                    for loop in loops:
                        loop.cancel()
            except ExceptionGroup as failures:
                # One loop that failed ends them all; its error says why.
                raise failures.exceptions[0] from None
            finally:
                await self._leave()
                log.info("worker stopped")

    async def _forever(self, what: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop until the worker stops, again after every failure; say once that it fails."""
        backoff = Backoff()
        clock = asyncio.get_running_loop().time
        while not self._stopping:
            started = clock()
            try:
                await loop()
            except Unavailable as error:
                if clock() - started > LONGEST:
                    backoff.succeeded()
                if not backoff.failing:
                    log.warning("server unavailable", while_=what, error=str(error))
                await self._pause(backoff.failed())
            except BaseException:
                # One that ends for good ends all; a cancellation alone may get lost on its way.
                self._stopping = True
                raise

    async def _keep(self) -> None:
        """Settle who owns what: on every change, and often enough to see who fell silent."""
        backoff = Backoff()
        while not self._stopping:
            self._bell.clear()
            if await self._holdings.settle():
                await self._feeder.wake()
            self.ready.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.lease / RENEWALS):
                    await self._bell.wait()
            if self._holdings.take_losses():
                await self._pause(backoff.failed())
            else:
                backoff.succeeded()

    async def _pause(self, seconds: float) -> None:
        """Let time pass; who asks the worker to stop does not wait for its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    async def _listen(self) -> None:
        async for _ in self._backend.ownership.changes():
            self._bell.set()

    async def _renew(self) -> None:
        while not self._stopping:
            # Of several nodes one may not answer; the others are asked in time all the same.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.lease / RENEWALS):
                    await self._holdings.keep()
            await asyncio.sleep(self._settings.lease / RENEWALS)

    async def _watch(self) -> None:
        while not self._stopping:
            await asyncio.sleep(WATCH_EVERY)
            await self._backend.ownership.watch(self.worker_id)

    async def _tidy(self) -> None:
        failing = False
        # Its cancellation can be lost: of many calls one may fail in the moment in which all are cancelled.
        while not self._stopping:
            await asyncio.sleep(TIDY_EVERY)
            try:
                await self._holdings.tidy()
            except Unavailable:
                raise
            except Exception:
                # Commands are applied all the same.
                if not failing:
                    log.exception("partitions cannot be tidied")
                failing = True
            else:
                failing = False

    async def _leave(self) -> None:
        failures: list[Unavailable] = []
        give_up = partial(self._holdings.give_up, list(self._holdings.owned))
        # Also where a partition could not be released: others need not wait for what this worker would take.
        for leave in (give_up, partial(self._backend.ownership.depart, self.worker_id)):
            try:
                await leave()
            except Unavailable as error:
                failures.append(error)
        if failures:
            log.warning("left without releasing all: the leases run out by themselves", error=str(failures[0]))

    def _processor(self, state: PartitionState) -> PartitionProcessor:
        settings, backend = self._settings, self._backend
        intake = Intake(
            state.partition,
            backend.partitions,
            settings.max_message_bytes,
            partial(backend.channels.is_reply_channel, state.partition),
        )
        headers = max(1, settings.cached_sessions // backend.partitions)
        limits = ParkingLimits(settings.parked_commands, settings.parked_bytes)
        memory = OwnerMemory.empty(backend.quarantine, state.partition, headers, limits)
        return PartitionProcessor(state, intake, backend.store, self._answers, self._catalogue, memory)
