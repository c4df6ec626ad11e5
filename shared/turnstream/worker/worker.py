"""The worker, put together: one loop reads, one task a partition applies, one keeps what is owned (design §3, §5)."""

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from turnstream.application.commands.decoder import CommandDecoder
from turnstream.application.commands.owner_memory import OwnerMemory, ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.application.queries.query_handler import QueryHandler
from turnstream.catalogue import load_catalogue
from turnstream.domain.prices import Catalogue
from turnstream.errors import Unavailable
from turnstream.logging import bound, get_logger
from turnstream.pending import PendingConnection
from turnstream.ports import Backend, PartitionState
from turnstream.settings import Settings, load_settings
from turnstream.worker.member import Member
from turnstream.worker.partition_worker import BatchLimits, PartitionWorker
from turnstream.worker.stream_feeder import StreamFeeder

log = get_logger(__name__)

TIDY_EVERY = 2.0
"""Seconds between two looks at what retention may take."""


class Worker:
    """Applies commands until it is stopped.

    `run` it in a task; `stop` makes it finish the batches in flight, release its partitions and end.

    Example:
        async with Worker.connect("redis://localhost:6379") as worker:
            await worker.run()

    """

    def __init__(
        self, backend: Backend, settings: Settings, catalogue: Catalogue, resources: AsyncExitStack | None = None
    ) -> None:
        """Prepare to work on a deployment; `resources` are closed with the worker. Nothing is started yet."""
        instance = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
        self.worker_id = f"{instance}:{secrets.token_hex(3)}"
        self._backend = backend
        self._settings = settings
        self._catalogue = catalogue
        limits = BatchLimits(settings.batch_commands, settings.batch_bytes)
        self._member = Member[PartitionState, PartitionWorker](
            self.worker_id,
            backend.partitions,
            backend.ownership,
            lambda state: PartitionWorker(self._processor(state), limits),
            settings.lease,
        )
        self._feeder = StreamFeeder(backend.queue, self._member.owned, settings.batch_commands)
        self._answers = QueryHandler(backend.reader, backend.partitions)
        self._resources = resources or AsyncExitStack()
        self._ended = asyncio.Event()
        self._ended.set()

    @classmethod
    def connect(cls, url: str | None = None, *, settings: Settings | None = None) -> "PendingConnection[Worker]":
        """Connect to a server, to work there; the deployment is created if there is none.

        Args:
            url: as for `Turnstream.connect`; by default the settings'.
            settings: by default those of the environment (`TURNSTREAM_…`).

        Raises:
            Unavailable: no server answers there.
            ConfigurationError: the server, the deployment there, a permission or the catalogue does not fit.

        """
        return PendingConnection(partial(cls._connected, url, settings))

    @classmethod
    async def _connected(cls, url: str | None, settings: Settings | None) -> "Worker":
        from turnstream.adapters.redis.backend import RedisBackend  # noqa: PLC0415 - other backends do not need it

        settings = settings or load_settings()
        settings = settings.at(url) if url is not None else settings
        catalogue = load_catalogue(settings.catalogue_file)
        async with AsyncExitStack() as resources:
            backend = await RedisBackend.open(settings, "turnstream-worker", works=True)
            resources.push_async_callback(backend.aclose)
            return cls(backend, settings, catalogue, resources.pop_all())

    @property
    def ready(self) -> asyncio.Event:
        """Set when the worker has looked for the first time at what it may own."""
        return self._member.ready

    def stop(self) -> None:
        """Finish the work in flight and end `run`."""
        self._member.stop()

    async def aclose(self) -> None:
        """Stop, wait until `run` has ended, and close the connections that `connect` made."""
        self.stop()
        await self._ended.wait()
        await self._resources.aclose()

    async def run(self) -> None:
        """Work until stopped; if the server goes away, the worker waits for it."""
        self._ended.clear()
        with bound(worker=self.worker_id):
            log.info("worker started", partitions=self._backend.partitions)
            try:
                async with self._member.joined():
                    self._member.start("reading commands", self._feeder.run)
                    self._member.start("waking the reader", self._wake_feeder)
                    self._member.start("tidying", self._tidy)
                    await self._member.share()
                    self._feeder.stop()
            finally:
                self._ended.set()
                log.info("worker stopped")

    async def _wake_feeder(self) -> None:
        while not self._member.stopping:
            await self._member.rebalanced.wait()
            self._member.rebalanced.clear()
            await self._feeder.wake()

    async def _tidy(self) -> None:
        failing = False
        # Its cancellation can be lost: of many calls one may fail in the moment in which all are cancelled.
        while not self._member.stopping:
            await asyncio.sleep(TIDY_EVERY)
            try:
                states = [owned.state for owned in self._member.owned.values()]
                self._member.take_again(await self._backend.ownership.tidy(states, self._in_flight))
            except Unavailable:
                raise
            except Exception:
                # Commands are applied nevertheless.
                if not failing:
                    log.exception("partitions cannot be tidied")
                failing = True
            else:
                failing = False

    def _in_flight(self, partition: int) -> Sequence[str]:
        owned = self._member.owned.get(partition)
        return owned.in_flight if owned else ()

    def _processor(self, state: PartitionState) -> PartitionProcessor:
        settings, backend = self._settings, self._backend
        intake = CommandDecoder(
            state.partition,
            backend.partitions,
            settings.max_message_bytes,
            partial(backend.channels.is_reply_channel, state.partition),
        )
        headers = max(1, settings.cached_sessions // backend.partitions)
        limits = ParkingLimits(settings.parked_commands, settings.parked_bytes)
        memory = OwnerMemory.empty(backend.quarantine, state.partition, headers, limits)
        return PartitionProcessor(state, intake, backend.store, self._answers, self._catalogue, memory)
