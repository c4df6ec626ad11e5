"""Keeps a worker's partitions: takes those that should be its own, renews them, gives up the surplus (design §5)."""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from turnstream.application.processor import PartitionProcessor
from turnstream.errors import ConfigurationError, Fenced, Unavailable
from turnstream.ports import Backend, PartitionState
from turnstream.telemetry import get_logger, where_of
from turnstream.worker.assignment import assigned
from turnstream.worker.partition import BatchLimits, OwnedPartition

log = get_logger(__name__)

HANDOVER = 10.0
"""Seconds that a batch in hand may take when its partition is to be given up."""

MOVES = 8
"""The part of all partitions that a worker gives up at a time, so that few stand still while they change hands."""


class Holdings:
    """The partitions that a worker owns now, each with the task that applies its commands."""

    def __init__(
        self,
        worker_id: str,
        backend: Backend,
        process: Callable[[PartitionState], PartitionProcessor],
        limits: BatchLimits,
        bell: asyncio.Event,
    ) -> None:
        """Own nothing yet.

        Args:
            worker_id: who owns.
            backend: the deployment.
            process: makes what applies a partition's commands from where it stands.
            limits: how much is applied in one step.
            bell: rung when a partition was lost, for it should be taken again.

        """
        self.owned: dict[int, OwnedPartition] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._losses = 0
        self._stalled: dict[int, str] = {}
        self._misfit: ConfigurationError | None = None
        self._worker_id = worker_id
        self._partitions = backend.partitions
        self._ownership = backend.ownership
        self._process = process
        self._limits = limits
        self._bell = bell

    async def settle(self) -> bool:
        """Bring what is owned in line with who is alive; tell whether anything is to be read from somewhere else.

        Raises:
            Unavailable: the server does not answer.
            ConfigurationError: the server does not let this worker do what it must.

        """
        if self._misfit:
            raise self._misfit
        before = set(self.owned)
        alive = await self._ownership.beat(self._worker_id)
        wanted = assigned(self._worker_id, alive, self._partitions)
        surplus = sorted(before - wanted)
        await self.give_up(surplus[: max(1, self._partitions // MOVES)])
        taken = await self._take(wanted - set(self.owned))
        if set(self.owned) != before:
            log.info("partitions changed", owned=len(self.owned), wanted=len(wanted), workers=len(alive))
        return taken > 0 or set(self.owned) != before

    async def keep(self) -> None:
        """Say that this worker lives, and renew its leases: on time, whatever else takes long.

        Raises:
            Unavailable: the server does not answer.

        """
        await self._ownership.beat(self._worker_id)
        states = [owned.state for owned in self.owned.values()]
        for state, kept in zip(states, await self._ownership.renew(states), strict=True):
            owned = self.owned.get(state.partition)
            if not kept and owned and owned.state.token == state.token:
                log.warning("partition lost", partition=state.partition)
                await self._abandon(state.partition)
        self._tell_recovered()

    async def give_up(self, numbers: Iterable[int]) -> None:
        """Finish the batch in hand of some partitions and release them; one that takes too long is cut short."""
        leaving = [number for number in numbers if number in self.owned]
        for number in leaving:
            self.owned[number].stop()
        if leaving:
            _, late = await asyncio.wait([self._tasks[number] for number in leaving], timeout=HANDOVER)
            for task in late:
                log.warning("batch cut short", task=task.get_name())
                task.cancel()
            if late:
                await asyncio.wait(late)
        left = [self.owned.pop(number) for number in leaving if number in self.owned]
        for number in leaving:
            self._stalled.pop(number, None)
        await self._ownership.release([owned.state for owned in left])

    def take_losses(self) -> int:
        """Return how many partitions were lost since the last call."""
        losses, self._losses = self._losses, 0
        return losses

    async def tidy(self) -> None:
        """Trim events and show progress, off the hot path."""
        await self._ownership.tidy([owned.state for owned in self.owned.values()])

    async def _take(self, numbers: Iterable[int]) -> int:
        takes = [self._ownership.take(number, self._worker_id) for number in sorted(numbers)]
        answers = await asyncio.gather(*takes, return_exceptions=True)
        states = [answer for answer in answers if isinstance(answer, PartitionState)]
        for state in states:
            self._hold(state)
        for failure in answers:
            # The others are not held back by a server that does not answer; it is tried again with the next settling.
            if isinstance(failure, BaseException) and not (states and isinstance(failure, Unavailable)):
                raise failure
        return len(states)

    def _hold(self, state: PartitionState) -> None:
        owned = OwnedPartition(self._process(state), self._limits)
        self.owned[state.partition] = owned
        self._tasks[state.partition] = asyncio.create_task(
            self._run(state.partition, owned),
            name=f"partition-{state.partition}",
        )

    async def _run(self, number: int, owned: OwnedPartition) -> None:
        """Apply commands until stopped; whatever goes wrong, the partition is taken again and the cursor read."""
        with structlog.contextvars.bound_contextvars(partition=number):
            try:
                await owned.run()
            except Fenced as error:
                log.warning("partition fenced", reason=error.reason)
                self._drop(number)
            except Unavailable as error:
                self._stall(number, owned.state.cursor, error)
            except ConfigurationError as error:
                self._misfit = error
                self._drop(number)
            except Exception as bug:  # noqa: BLE001 - logged, and the partition taken again
                # Without a traceback: it may quote a message's content.
                log.error("batch failed", reason=type(bug).__name__, where=where_of(bug))  # noqa: TRY400
                self._drop(number)

    def _stall(self, number: int, cursor: str, error: Unavailable) -> None:
        """Drop a partition whose batch was interrupted; say so unless it stands where it was interrupted before."""
        if self._stalled.get(number) != cursor:
            log.warning("batch interrupted", error=str(error))
        self._drop(number)
        self._stalled[number] = cursor

    def _tell_recovered(self) -> None:
        for number, owned in self.owned.items():
            if self._stalled.get(number, owned.state.cursor) != owned.state.cursor:
                log.info("batches are applied again", partition=number)
                del self._stalled[number]

    def _drop(self, number: int) -> None:
        """Forget a partition and all that is remembered of it."""
        self.owned.pop(number, None)
        self._stalled.pop(number, None)
        self._losses += 1
        self._bell.set()

    async def _abandon(self, number: int) -> None:
        self._drop(number)
        self._tasks[number].cancel()
        await asyncio.wait([self._tasks[number]])
