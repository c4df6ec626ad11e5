"""The leases of a member: it takes its share of the partitions, renews and releases them (design §5)."""

import asyncio
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Generic, Protocol, TypeGuard, TypeVar

from turnstream.backoff import Faults
from turnstream.errors import ConfigurationError, KeyUnusable, TurnstreamError, Unavailable
from turnstream.logging import bound, get_logger, where_of
from turnstream.ports import Lease, Membership
from turnstream.signals import Fenced
from turnstream.worker.assignment import assigned

log = get_logger(__name__)

HANDOVER_S = 10.0
"""Seconds that work in flight may take when its partition is released."""

LAST_HANDOVER_S = 5.0
"""The same when the member ends: the process that stops it does not wait long."""

LEAVING_S = 2.0
"""Seconds to wait for each answer of the server when the member ends."""

RELEASED_SHARE = 8
"""A member releases one in so many of all partitions at a time, so that few are without an owner at any moment."""


State = TypeVar("State", bound=Lease)


class PartitionTask(Protocol):
    """The work on a partition by its owner."""

    @property
    def progress(self) -> object:
        """How far the work has come; it differs after each step."""
        ...

    def stop(self) -> None:
        """Finish the work in flight, then end `run`."""
        ...

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            Fenced: the partition has another owner.
            Unavailable: the result of the work in flight is unknown.

        """
        ...


Owned = TypeVar("Owned", bound=PartitionTask)


class PartitionLeases(Generic[State, Owned]):
    """The partitions that a member owns now, each with the task that works on it."""

    def __init__(
        self,
        member_id: str,
        partitions: int,
        membership: Membership[State],
        new_task: Callable[[State], Owned],
        renew_every: float,
    ) -> None:
        """Own nothing yet.

        Args:
            member_id: the member that owns them.
            partitions: the number of partitions that the members share.
            membership: the other members, and the leases.
            new_task: makes the work on a partition from its stored state.
            renew_every: seconds between two renewals of the leases.

        """
        self.owned: dict[int, Owned] = {}
        self.due = asyncio.Event()
        """Set when a rebalance is due, as when the work on a lost partition has ended."""
        self._states: dict[int, State] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._losses = 0
        self._stalled: dict[int, object] = {}
        self._faults: Faults[int] = Faults()
        self._refused: ConfigurationError | None = None
        self._member_id = member_id
        self._partitions = partitions
        self._membership = membership
        self._new_task = new_task
        self._renew_every = renew_every

    async def rebalance(self) -> bool:
        """Take and release partitions by the members that are alive; return whether the owned partitions changed.

        Raises:
            Unavailable: the server does not answer.
            ConfigurationError: the server does not let this member do what it must.

        """
        if self._refused:
            raise self._refused
        before = set(self.owned)
        alive = await self._membership.beat(self._member_id)
        wanted = assigned(self._member_id, alive, self._partitions)
        for number in self._faults.failing:
            if number not in wanted:
                self._faults.clear(number)
        surplus = sorted(before - wanted)
        await self.release(surplus[: max(1, self._partitions // RELEASED_SHARE)])
        # A lost partition is taken after its work has ended. Otherwise two tasks would do the same work at a time.
        working = {number for number, task in self._tasks.items() if not task.done()}
        taken = await self._take({n for n in wanted - set(self.owned) - working if not self._faults.is_paused(n)})
        if set(self.owned) != before:
            log.info("partitions changed", owned=len(self.owned), wanted=len(wanted), members=len(alive))
        return taken > 0 or set(self.owned) != before

    async def renew(self) -> None:
        """Send a heartbeat and renew the leases, on time whatever else takes long.

        Raises:
            Unavailable: the server does not answer.

        """
        # Both at the same time: the node with the registry may be down while those with the leases are up.
        beating = asyncio.ensure_future(self._membership.beat(self._member_id))
        beating.add_done_callback(lambda beaten: beaten.cancelled() or beaten.exception())
        try:
            await self._renew_leases()
            await beating
        finally:
            beating.cancel()
        self._log_recovered()

    async def _renew_leases(self) -> None:
        leases = [self._states[number] for number in self.owned]
        for state, kept in zip(leases, await self._membership.renew(leases), strict=True):
            if not kept and state.partition in self.owned and self._states[state.partition] is state:
                log.warning("partition lost", partition=state.partition)
                self._drop(state.partition)
                self._tasks[state.partition].cancel()

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget partitions whose stored state has changed, so that this member takes them again."""
        for number in numbers:
            if self.owned.pop(number, None) is not None:
                self._stalled.pop(number, None)
                self._tasks[number].cancel()

    async def release(self, numbers: Iterable[int], *, last: bool = False) -> None:
        """Finish the work in flight on some partitions and release them; work that takes too long is cancelled.

        Raises:
            Unavailable: the server does not answer.
            TimeoutError: it does not answer soon enough for the `last` ones of a member that ends.

        """
        leaving = [number for number in numbers if number in self.owned]
        # Also of those that are forgotten before: their cancelled work ends.
        leases = [self._states[number] for number in leaving]
        for number in leaving:
            self.owned[number].stop()
        seconds = min(HANDOVER_S, LAST_HANDOVER_S) if last else HANDOVER_S
        late = await self._still_running({self._tasks[number] for number in leaving}, seconds)
        for task in late:
            log.warning("partition cut short", task=task.get_name())
            task.cancel()
        await self._still_running(late, math.inf)
        for number in leaving:
            self.owned.pop(number, None)
            self._stalled.pop(number, None)
            self._faults.clear(number)
        async with asyncio.timeout(LEAVING_S if last else None):
            await self._membership.release(leases)

    async def _still_running(self, tasks: set[asyncio.Task[None]], seconds: float) -> set[asyncio.Task[None]]:
        """Return the tasks that have not ended in time. No other member gets their partitions before they have."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while tasks and clock() < end:
            _, tasks = await asyncio.wait(tasks, timeout=min(self._renew_every, end - clock()))
            if tasks:
                with suppress(Unavailable, TimeoutError):
                    async with asyncio.timeout(self._renew_every):
                        await self.renew()
        return tasks

    async def ended(self) -> None:
        """Return after the work on all lost partitions has ended."""
        lost = [task for number, task in self._tasks.items() if number not in self.owned and not task.done()]
        if lost:
            await asyncio.wait(lost)

    @property
    def has_faults(self) -> bool:
        """Whether partitions are excluded after a fault, to be tried again soon."""
        return bool(self._faults)

    def take_losses(self) -> int:
        """Return how many partitions were lost since the last call."""
        losses, self._losses = self._losses, 0
        return losses

    async def _take(self, numbers: Iterable[int]) -> int:
        """Take partitions; one that cannot be taken because of a fault in its keys is excluded for a while.

        Raises:
            Unavailable: the server does not answer.
            ConfigurationError: the server does not let this member do what it must.

        """
        chosen = sorted(numbers)
        takes = [self._membership.take(number, self._member_id) for number in chosen]
        taken = 0
        failures: list[BaseException] = []
        for number, answer in zip(chosen, await asyncio.gather(*takes, return_exceptions=True), strict=True):
            if not isinstance(answer, BaseException):
                taken += answer is not None
                if answer is not None:
                    self._start(answer)
            elif _is_of_partition(answer) or (isinstance(answer, ConfigurationError) and self.owned):
                self._exclude(number, answer)
            else:
                failures.append(answer)
        for failure in failures:
            # A server that does not answer does not hold up the others; the next round tries it again.
            if not (taken and isinstance(failure, Unavailable)):
                raise failure
        return taken

    def _start(self, state: State) -> None:
        owned = self._new_task(state)
        self._states[state.partition] = state
        self.owned[state.partition] = owned
        task = asyncio.create_task(self._run(state.partition, owned), name=f"partition-{state.partition}")
        self._tasks[state.partition] = task
        task.add_done_callback(lambda _: self._rebalance_if_lost(state.partition))

    async def _run(self, number: int, owned: Owned) -> None:
        """Work until stopped. After any failure the partition is taken again, from its stored state."""
        with bound(partition=number):
            try:
                await owned.run()
            except Fenced as error:
                log.warning("partition fenced", reason=error.reason)
                self._drop(number)
            except ConfigurationError as error:
                self._refused = error
                self._drop(number)
            except Exception as error:
                if _is_of_partition(error):
                    self._exclude(number, error)
                elif isinstance(error, Unavailable):
                    self._stall(number, owned, error)
                else:
                    raise
            except BaseException:
                # The work has ended, so the lease must not be renewed.
                self._drop(number)
                raise

    def _stall(self, number: int, owned: Owned, error: Unavailable) -> None:
        """Drop a partition whose work was interrupted; log it if there was progress since the last interruption."""
        if self._stalled.get(number) != owned.progress:
            log.warning("partition interrupted", error=str(error))
        if self._drop(number):
            self._stalled[number] = owned.progress

    def _exclude(self, number: int, fault: Exception) -> None:
        """Exclude a partition for a while because of a fault in its keys, and log this once."""
        self.owned.pop(number, None)
        self._stalled.pop(number, None)
        # No traceback, and no text of other code's errors: they may quote the content of a message.
        reason = str(fault) if isinstance(fault, TurnstreamError) else type(fault).__name__
        if self._faults.failed(number, reason):
            log.error("partition failed", partition=number, reason=reason, where=where_of(fault))

    def _log_recovered(self) -> None:
        for number in self._faults.failing:
            if number in self.owned and self._faults.is_quiet(number) and self._faults.clear(number):
                log.info("partition goes on", partition=number)
        for number, owned in self.owned.items():
            if self._stalled.get(number, owned.progress) != owned.progress:
                log.info("partition goes on", partition=number)
                del self._stalled[number]

    def _drop(self, number: int) -> bool:
        """Forget a partition; False if it was given up or lost before."""
        if self.owned.pop(number, None) is None:
            return False
        self._stalled.pop(number, None)
        self._losses += 1
        return True

    def _rebalance_if_lost(self, number: int) -> None:
        if number not in self.owned:
            self.due.set()


def _is_of_partition(failure: BaseException) -> TypeGuard[Exception]:
    """Return whether a failure concerns one partition, and not the server, the deployment or this program."""
    if isinstance(failure, Unavailable | ConfigurationError):
        return isinstance(failure, KeyUnusable)
    return isinstance(failure, Exception)
