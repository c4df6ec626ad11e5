"""A member's part in sharing the partitions: it rebalances, renews and watches until it is stopped (design §5)."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic
from typing import Generic

from turnstream.backoff import FIRST, LONGEST, Backoff
from turnstream.errors import Unavailable
from turnstream.logging import get_logger
from turnstream.ports import Membership
from turnstream.worker.partition_leases import LEAVING_S, Owned, PartitionLeases, State

log = get_logger(__name__)

RENEWALS = 4
"""How often a lease is renewed within its time."""

WATCH_EVERY = 0.4
"""Seconds between two looks at the member next to this one."""


class Member(Generic[State, Owned]):
    """A member of the group that shares the partitions: it works on its share until it is stopped.

    Its owner, a worker or a consumer, adds tasks to it:

        async with member.joined():
            member.start("reading commands", read)
            await member.share()
    """

    def __init__(
        self,
        member_id: str,
        partitions: int,
        membership: Membership[State],
        new_task: Callable[[State], Owned],
        lease: float,
    ) -> None:
        """Own nothing yet; the arguments are those of `PartitionLeases`, and the seconds that a lease lasts."""
        self._member_id = member_id
        self._membership = membership
        self._lease = lease
        self._leases = PartitionLeases(member_id, partitions, membership, new_task, lease / RENEWALS)
        self._group = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()
        self._rebalancing: asyncio.Timeout | None = None
        self._answered_at = 0.0
        self.stopping = False
        self.ready = asyncio.Event()
        """Set when it has looked for the first time at what it may own."""
        self.rebalanced = asyncio.Event()
        """Set when the owned partitions have changed; the owner clears it."""
        self.notified = asyncio.Event()
        """Set after a notification of the membership; the owner clears it."""

    @property
    def owned(self) -> Mapping[int, Owned]:
        """The partitions that it works on now."""
        return self._leases.owned

    def stop(self) -> None:
        """Finish the work in flight and end `share`."""
        self.stopping = True
        self._stopped.set()
        self._leases.due.set()
        # It has ended, or this is called from outside of the event loop.
        with suppress(RuntimeError):
            if self._rebalancing:
                self._rebalancing.reschedule(asyncio.get_running_loop().time() + LEAVING_S)

    def take_again(self, partitions: Iterable[int]) -> None:
        """Take partitions again whose stored state has changed."""
        self._leases.forget(partitions)

    @asynccontextmanager
    async def joined(self) -> AsyncGenerator[None]:
        """Take part; at the end cancel all tasks, then release the partitions.

        Raises:
            Exception: the error of the first task that failed, other than `Unavailable`; it ends all.

        """
        try:
            async with self._group:
                self.start("listening for changes", self._listen)
                self.start("renewing leases", self._renew)
                self.start("watching another member", self._watch)
                yield
                for task in self._running:
                    task.cancel()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            await self._leave()

    def start(self, doing: str, work: Callable[[], Awaitable[None]]) -> None:
        """Start a task while this member has `joined`: `work` is repeated, also after `Unavailable`, until the end.

        Args:
            doing: what the task does, for the log.
            work: one run of it.

        """
        self._running.append(self._group.create_task(self._repeat(doing, work)))

    async def share(self) -> None:
        """Take this member's share of the partitions, now and after each change, until it is stopped."""
        await self._repeat("keeping partitions", self._share)

    async def _repeat(self, doing: str, work: Callable[[], Awaitable[None]]) -> None:
        """Repeat work until stopped, with pauses after failures; log the first of some failures in a row."""
        backoff = Backoff()
        while not self.stopping:
            started = monotonic()
            try:
                await work()
            except Unavailable as error:
                # A long attempt may also be a server that hangs, but then nothing was answered since it began.
                if started + LONGEST < monotonic() and started < self._answered_at:
                    backoff.succeeded()
                if not backoff.failing:
                    log.warning("server unavailable", while_=doing, error=str(error))
                await self._pause(backoff.failed())
            except BaseException:
                # One that ends for good ends all; a cancellation alone may get lost on its way.
                self.stopping = True
                raise
            else:
                # Work that just returned would do so again, and no other task would get a turn.
                await self._pause(FIRST)

    async def _share(self) -> None:
        """Rebalance: on every change, and often enough to detect members that have died."""
        backoff = Backoff()
        while not self.stopping:
            self._leases.due.clear()
            if await self._rebalance():
                self.rebalanced.set()
            self._answered_at = monotonic()
            self.ready.set()
            with suppress(TimeoutError):
                soon = LONGEST if self._leases.has_faults else math.inf
                async with asyncio.timeout(min(self._lease / RENEWALS, soon)):
                    await self._leases.due.wait()
            if self._leases.take_losses():
                await self._pause(backoff.failed())
            else:
                backoff.succeeded()

    async def _rebalance(self) -> bool:
        """Rebalance once; after a stop, the server is not waited for much longer."""
        self._rebalancing = limit = asyncio.timeout(None)
        try:
            async with limit:
                return await self._leases.rebalance()
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
            self._leases.due.set()
            self.notified.set()

    async def _renew(self) -> None:
        while not self.stopping:
            # One of several nodes may not answer; the others must still be asked in time.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease / RENEWALS):
                    await self._leases.renew()
                    self._answered_at = monotonic()
            await asyncio.sleep(self._lease / RENEWALS)

    async def _watch(self) -> None:
        while not self.stopping:
            await asyncio.sleep(WATCH_EVERY)
            await self._membership.watch(self._member_id)
            self._answered_at = monotonic()

    async def _leave(self) -> None:
        failures: list[str] = []
        release = partial(self._leases.release, list(self._leases.owned), last=True)
        # Also if a partition could not be released: the others need not wait for the share of this member.
        for leave in (release, self._depart, self._leases.ended):
            try:
                await leave()
            except Unavailable as error:
                failures.append(str(error))
            except TimeoutError:
                failures.append("The server does not answer")
        if failures:
            log.warning("left without releasing all partitions: their leases expire", error=failures[0])

    async def _depart(self) -> None:
        async with asyncio.timeout(LEAVING_S):
            await self._membership.depart(self._member_id)
