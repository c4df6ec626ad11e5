"""Taking part in sharing the partitions: the loops that settle, renew and watch until it ends (design §5)."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Generic

from turnstream.backoff import FIRST, LONGEST, Backoff
from turnstream.errors import Unavailable
from turnstream.logging import get_logger
from turnstream.ports import Membership
from turnstream.worker.holdings import LEAVING, Owned, PartitionLeases, State

log = get_logger(__name__)

RENEWALS = 4
"""How often a lease is renewed within its time."""

WATCH_EVERY = 0.4
"""Seconds between two looks at the member next to this one."""


async def _nothing() -> None:
    """Do nothing."""


class Member(Generic[State, Owned]):
    """A member of the group that shares the partitions: it works on its share until it is stopped."""

    def __init__(
        self,
        member_id: str,
        partitions: int,
        membership: Membership[State],
        hold: Callable[[State], Owned],
        lease: float,
    ) -> None:
        """Own nothing yet; the arguments are those of `PartitionLeases`, and the seconds that a lease lasts."""
        self._member_id = member_id
        self._membership = membership
        self._lease = lease
        self._bell = asyncio.Event()
        self._holdings = PartitionLeases(member_id, partitions, membership, hold, self._bell, lease / RENEWALS)
        self._stopped = asyncio.Event()
        self._moved: Callable[[], Awaitable[None]] = _nothing
        self._changed: Callable[[], None] = lambda: None
        self._settling: asyncio.Timeout | None = None
        self._answered = 0.0
        self.stopping = False
        self.ready = asyncio.Event()
        """Set when it has looked for the first time at what it may own."""

    @property
    def owned(self) -> Mapping[int, Owned]:
        """The partitions that it works on now."""
        return self._holdings.owned

    def stop(self) -> None:
        """Finish the work in flight, give up all partitions and end `run`."""
        self.stopping = True
        self._stopped.set()
        self._bell.set()
        # It has ended, or this is called from outside of the event loop.
        with suppress(RuntimeError):
            if self._settling:
                self._settling.reschedule(asyncio.get_running_loop().time() + LEAVING)

    def take_again(self, partitions: Iterable[int]) -> None:
        """Take partitions again whose stored state has changed."""
        self._holdings.let_go(partitions)

    async def run(
        self,
        loops: Mapping[str, Callable[[], Awaitable[None]]],
        *,
        moved: Callable[[], Awaitable[None]] = _nothing,
        changed: Callable[[], None] = lambda: None,
        ending: Callable[[], None] = lambda: None,
    ) -> None:
        """Take part until stopped; a server that goes away is waited for.

        Args:
            loops: the other loops that run until it is stopped, by their names in the log.
            moved: called when the owned partitions have changed.
            changed: called after a notification of the membership.
            ending: called after the work in flight has ended, before the loops are cancelled.

        """
        self._moved, self._changed = moved, changed
        own = {
            "listening for changes": self._listen,
            "renewing leases": self._renew,
            "watching another member": self._watch,
        }
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._forever(what, loop)) for what, loop in {**loops, **own}.items()]
                await self._forever("keeping partitions", self._keep)
                ending()
                for loop in running:
                    loop.cancel()
        except ExceptionGroup as failures:
            # One loop that failed ends them all; its error says why.
            raise failures.exceptions[0] from None
        finally:
            await self._leave()

    async def _forever(self, what: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop until it stops, again after every failure; say once that it fails."""
        backoff = Backoff()
        while not self.stopping:
            started = monotonic()
            try:
                await loop()
            except Unavailable as error:
                # A long attempt may also be a server that hangs, but then nothing was answered since it began.
                if started + LONGEST < monotonic() and started < self._answered:
                    backoff.succeeded()
                if not backoff.failing:
                    log.warning("server unavailable", while_=what, error=str(error))
                await self._pause(backoff.failed())
            except BaseException:
                # One that ends for good ends all; a cancellation alone may get lost on its way.
                self.stopping = True
                raise
            else:
                # A loop that just returned would do so again, and no other task would get a turn.
                await self._pause(FIRST)

    async def _keep(self) -> None:
        """Settle who owns what: on every change, and often enough to see who fell silent."""
        backoff = Backoff()
        while not self.stopping:
            self._bell.clear()
            moved = await self._settled()
            self._answered = monotonic()
            if moved:
                await self._moved()
            self.ready.set()
            with suppress(TimeoutError):
                soon = LONGEST if self._holdings.has_faults else math.inf
                async with asyncio.timeout(min(self._lease / RENEWALS, soon)):
                    await self._bell.wait()
            if self._holdings.take_losses():
                await self._pause(backoff.failed())
            else:
                backoff.succeeded()

    async def _settled(self) -> bool:
        """Settle who owns what; once it is asked to stop, the server is not waited for much longer."""
        self._settling = limit = asyncio.timeout(None)
        try:
            async with limit:
                return await self._holdings.settle()
        except TimeoutError:
            if not limit.expired():
                raise
            return False

    async def _pause(self, seconds: float) -> None:
        """Let time pass, until a stop at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    async def _listen(self) -> None:
        async for _ in self._membership.changes():
            self._bell.set()
            self._changed()

    async def _renew(self) -> None:
        while not self.stopping:
            # One of several nodes may not answer; the others must still be asked in time.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease / RENEWALS):
                    await self._holdings.keep()
                    self._answered = monotonic()
            await asyncio.sleep(self._lease / RENEWALS)

    async def _watch(self) -> None:
        while not self.stopping:
            await asyncio.sleep(WATCH_EVERY)
            await self._membership.watch(self._member_id)
            self._answered = monotonic()

    async def _leave(self) -> None:
        failures: list[str] = []
        give_up = partial(self._holdings.give_up, list(self._holdings.owned), last=True)
        # Also if a partition could not be released: the others need not wait for the share of this member.
        for leave in (give_up, self._depart, self._holdings.ended):
            try:
                await leave()
            except Unavailable as error:
                failures.append(str(error))
            except TimeoutError:
                failures.append("The server does not answer")
        if failures:
            log.warning("left without releasing all partitions: their leases expire", error=failures[0])

    async def _depart(self) -> None:
        async with asyncio.timeout(LEAVING):
            await self._membership.depart(self._member_id)
