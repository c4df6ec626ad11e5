"""Keeps a member's partitions: takes those that should be its own, renews them, gives up the surplus (design §5)."""

import asyncio
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Generic, Protocol, TypeGuard, TypeVar

import structlog

from turnstream.backoff import Faults
from turnstream.errors import ConfigurationError, Fenced, KeyUnusable, TurnstreamError, Unavailable
from turnstream.ports import Lease, Membership
from turnstream.telemetry import get_logger, where_of
from turnstream.worker.assignment import assigned

log = get_logger(__name__)

HANDOVER = 10.0
"""Seconds that the work in hand may take when its partition is to be given up."""

LAST_HANDOVER = 5.0
"""The same where the member ends: who has told it to stop does not wait long."""

LEAVING = 2.0
"""Seconds for which each answer of the server is waited for where the member ends."""

MOVES = 8
"""The part of all partitions that a member gives up at a time, so that few stand still while they change hands."""


State = TypeVar("State", bound=Lease)


class Held(Protocol):
    """A partition in the hands of its owner, at work."""

    @property
    def place(self) -> object:
        """How far its work has come."""
        ...

    def stop(self) -> None:
        """Finish what is in hand, then end `run`."""
        ...

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            Fenced: the partition has another owner.
            Unavailable: the result of what was in hand is unknown.

        """
        ...


Owned = TypeVar("Owned", bound=Held)


class Holdings(Generic[State, Owned]):
    """The partitions that a member owns now, each with the task that works on it."""

    def __init__(
        self,
        member_id: str,
        partitions: int,
        membership: Membership[State],
        hold: Callable[[State], Owned],
        bell: asyncio.Event,
        renew_every: float,
    ) -> None:
        """Own nothing yet.

        Args:
            member_id: who owns.
            partitions: how many there are to share.
            membership: who else is there, and the leases.
            hold: makes what works on a partition from where it stands.
            bell: rung when the work on a lost partition has ended, for it should be taken again.
            renew_every: seconds between two renewals of the leases.

        """
        self.owned: dict[int, Owned] = {}
        self._leases: dict[int, State] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._losses = 0
        self._stalled: dict[int, object] = {}
        self._faults: Faults[int] = Faults()
        self._misfit: ConfigurationError | None = None
        self._member_id = member_id
        self._partitions = partitions
        self._membership = membership
        self._make = hold
        self._bell = bell
        self._renew_every = renew_every

    async def settle(self) -> bool:
        """Bring what is owned in line with who is alive; tell whether anything is to be read from somewhere else.

        Raises:
            Unavailable: the server does not answer.
            ConfigurationError: the server does not let this member do what it must.

        """
        if self._misfit:
            raise self._misfit
        before = set(self.owned)
        alive = await self._membership.beat(self._member_id)
        wanted = assigned(self._member_id, alive, self._partitions)
        for number in self._faults.places:
            if number not in wanted:
                self._faults.over(number)
        surplus = sorted(before - wanted)
        await self.give_up(surplus[: max(1, self._partitions // MOVES)])
        # What was lost, not before its work has ended: it would be done twice at the same time, in whatever order.
        working = {number for number, task in self._tasks.items() if not task.done()}
        taken = await self._take({n for n in wanted - set(self.owned) - working if not self._faults.rests(n)})
        if set(self.owned) != before:
            log.info("partitions changed", owned=len(self.owned), wanted=len(wanted), members=len(alive))
        return taken > 0 or set(self.owned) != before

    async def keep(self) -> None:
        """Say that this member lives, and renew its leases: on time, whatever else takes long.

        Raises:
            Unavailable: the server does not answer.

        """
        # Both at once: the node with the registry may be away, and those with the leases not.
        beating = asyncio.ensure_future(self._membership.beat(self._member_id))
        beating.add_done_callback(lambda beaten: beaten.cancelled() or beaten.exception())
        try:
            await self._renew()
            await beating
        finally:
            beating.cancel()
        self._tell_recovered()

    async def _renew(self) -> None:
        leases = [self._leases[number] for number in self.owned]
        for state, kept in zip(leases, await self._membership.renew(leases), strict=True):
            if not kept and state.partition in self.owned and self._leases[state.partition] is state:
                log.warning("partition lost", partition=state.partition)
                self._drop(state.partition)
                self._tasks[state.partition].cancel()

    def let_go(self, numbers: Iterable[int]) -> None:
        """Forget partitions that are this member's and stand somewhere else by now, so that it takes them again."""
        for number in numbers:
            if self.owned.pop(number, None) is not None:
                self._stalled.pop(number, None)
                self._tasks[number].cancel()

    async def give_up(self, numbers: Iterable[int], *, last: bool = False) -> None:
        """Finish what is in hand of some partitions and release them; one that takes too long is cut short.

        Raises:
            Unavailable: the server does not answer.
            TimeoutError: it does not answer soon enough for the `last` ones of a member that ends.

        """
        leaving = [number for number in numbers if number in self.owned]
        # Also of those that are forgotten before: cut short, they end by themselves.
        leases = [self._leases[number] for number in leaving]
        for number in leaving:
            self.owned[number].stop()
        seconds = min(HANDOVER, LAST_HANDOVER) if last else HANDOVER
        late = await self._late({self._tasks[number] for number in leaving}, seconds)
        for task in late:
            log.warning("partition cut short", task=task.get_name())
            task.cancel()
        await self._late(late, math.inf)
        for number in leaving:
            self.owned.pop(number, None)
            self._stalled.pop(number, None)
            self._faults.over(number)
        async with asyncio.timeout(LEAVING if last else None):
            await self._membership.release(leases)

    async def _late(self, tasks: set[asyncio.Task[None]], seconds: float) -> set[asyncio.Task[None]]:
        """Return which tasks have not ended in time; nobody else gets their partitions before they have."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while tasks and clock() < end:
            _, tasks = await asyncio.wait(tasks, timeout=min(self._renew_every, end - clock()))
            if tasks:
                with suppress(Unavailable, TimeoutError):
                    async with asyncio.timeout(self._renew_every):
                        await self.keep()
        return tasks

    async def ended(self) -> None:
        """Return when nothing is worked on any more that was lost."""
        lost = [task for number, task in self._tasks.items() if number not in self.owned and not task.done()]
        if lost:
            await asyncio.wait(lost)

    @property
    def has_faults(self) -> bool:
        """Tell whether partitions are left out, to be tried again soon."""
        return bool(self._faults)

    def take_losses(self) -> int:
        """Return how many partitions were lost since the last call."""
        losses, self._losses = self._losses, 0
        return losses

    async def _take(self, numbers: Iterable[int]) -> int:
        """Take partitions; one that cannot be taken, for a reason of its own, is left out for a while.

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
                    self._hold(answer)
            elif _is_of_partition(answer) or (isinstance(answer, ConfigurationError) and self.owned):
                self._leave_out(number, answer)
            else:
                failures.append(answer)
        for failure in failures:
            # The others are not held back by a server that does not answer; it is tried again with the next settling.
            if not (taken and isinstance(failure, Unavailable)):
                raise failure
        return taken

    def _hold(self, state: State) -> None:
        owned = self._make(state)
        self._leases[state.partition] = state
        self.owned[state.partition] = owned
        task = asyncio.create_task(self._run(state.partition, owned), name=f"partition-{state.partition}")
        self._tasks[state.partition] = task
        task.add_done_callback(lambda _: self._ring(state.partition))

    async def _run(self, number: int, owned: Owned) -> None:
        """Work until stopped; whatever goes wrong, the partition is taken again, from where it stands."""
        with structlog.contextvars.bound_contextvars(partition=number):
            try:
                await owned.run()
            except Fenced as error:
                log.warning("partition fenced", reason=error.reason)
                self._drop(number)
            except ConfigurationError as error:
                self._misfit = error
                self._drop(number)
            except Exception as error:
                if _is_of_partition(error):
                    self._leave_out(number, error)
                elif isinstance(error, Unavailable):
                    self._stall(number, owned, error)
                else:
                    raise
            except BaseException:
                # Nobody works on it any more, so its lease must not be renewed.
                self._drop(number)
                raise

    def _stall(self, number: int, owned: Owned, error: Unavailable) -> None:
        """Drop a partition whose work was interrupted; say so unless it stands where it was interrupted before."""
        if self._stalled.get(number) != owned.place:
            log.warning("partition interrupted", error=str(error))
        if self._drop(number):
            self._stalled[number] = owned.place

    def _leave_out(self, number: int, fault: Exception) -> None:
        """Leave a partition alone for a while, for a reason of its own, and say so once."""
        self.owned.pop(number, None)
        self._stalled.pop(number, None)
        # Without a traceback, and of other code's errors without the text: they may quote a message's content.
        reason = str(fault) if isinstance(fault, TurnstreamError) else type(fault).__name__
        if self._faults.failed(number, reason):
            log.error("partition failed", partition=number, reason=reason, where=where_of(fault))

    def _tell_recovered(self) -> None:
        for number in self._faults.places:
            if number in self.owned and self._faults.is_quiet(number) and self._faults.over(number):
                log.info("partition goes on", partition=number)
        for number, owned in self.owned.items():
            if self._stalled.get(number, owned.place) != owned.place:
                log.info("partition goes on", partition=number)
                del self._stalled[number]

    def _drop(self, number: int) -> bool:
        """Forget a partition and all that is remembered of it; False where it is given up or lost already."""
        if self.owned.pop(number, None) is None:
            return False
        self._stalled.pop(number, None)
        self._losses += 1
        return True

    def _ring(self, number: int) -> None:
        if number not in self.owned:
            self._bell.set()


def _is_of_partition(failure: BaseException) -> TypeGuard[Exception]:
    """Tell a fault of one partition from a state of the server, of the deployment or of this program."""
    if isinstance(failure, Unavailable | ConfigurationError):
        return isinstance(failure, KeyUnusable)
    return isinstance(failure, Exception)
