"""A run of chaos: producers at full speed while workers, network and servers are hurt, then a check of the history.

    producers, subscribers,
    members (processes)    ──▶ proxy "clients" ──┐
                                                 ├──▶ server (append-only file, synced before each answer)
    workers (processes)    ──▶ proxy "workers" ──┘          ▲
                                              witness ──────┘

or, without proxies, a cluster of three primaries with a replica each, which replies only after a replica has the data;
or, with proxies, a primary and a replica that is promoted without the latest data, so that history is lost.
Seeded: the same seed sends the same commands, as long as no session is lost, and chooses the same faults; how they meet
is the machine's.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from time import monotonic

from msgspec.structs import replace
from tests.chaos.archive import Archive
from tests.chaos.ending import Ending, stored_sessions
from tests.chaos.faults import Fault, Loss, worker_faults
from tests.chaos.history import History
from tests.chaos.listeners import all_is_handled_in_order, no_gap_in_silence
from tests.chaos.losses import FlushAll
from tests.chaos.members import NAME, Members, member_faults
from tests.chaos.outages import BEHIND, Failover
from tests.chaos.plan import Plan, Result
from tests.chaos.poison import PoisonSession
from tests.chaos.processes import Workers
from tests.chaos.producers import Producer
from tests.chaos.sites import ALL, SITES, Site
from tests.chaos.subscribers import KINDS, Subscriber, looking_often
from tests.chaos.waits import BOUND, ended, running, until
from tests.chaos.witness import IN_PEACE, KILLED, STOPPED, Witness

from turnstream import Turnstream
from turnstream.adapters.redis.backend import server_at

CALM = 0.3
"""Seconds between two faults of a kind, at most."""
REFUSED = 0.02
"""The share of calls in which the consumers' handler fails, so that sessions are retried."""
BUFFERS = (10_000, 100)
"""Events that the subscriptions of each listening client may hold."""


async def run(plan: Plan, site: str, directory: Path) -> Result:
    """Make a run on one of `SITES`; the workers' logs, and the files of one server, are left in the directory."""
    with looking_often():
        async with SITES[site](directory) as servers, AsyncExitStack() as open_things:
            return await Stage(plan, servers, directory, open_things).play()


class Stage:
    """Everything that takes part in a run."""

    def __init__(self, plan: Plan, site: Site, directory: Path, open_things: AsyncExitStack) -> None:
        self._plan = plan
        self._site = site
        self._settings = plan.settings(site)
        self._chance = Random(plan.seed)
        self._open = open_things
        self._history = History(plan.seed, durability=site.durability)
        self._past = server_at(self._settings, "witness")
        open_things.push_async_callback(self._past.topology.aclose)
        self._witness = Witness(self._past)
        self._archive = None if site.event_retention == ALL else Archive(self._past)
        self._ending = Ending(self._past, self._archive)
        self._workers = Workers(plan.environment(site, site.for_workers), directory)
        open_things.callback(self._workers.close)
        self._members = Members(plan.environment(site, site.for_clients), directory, REFUSED)
        open_things.callback(self._members.close)

    async def play(self) -> Result:
        """Start all, hurt it, let it come to rest, and read what is left."""
        for _ in range(self._plan.workers):
            self._workers.start()
        await until(self._ending.all_owned)
        for _ in range(self._plan.members):
            self._members.start()
        clients = [await self._client() for _ in range(self._plan.clients)]
        listeners = [await self._client(subscriber_buffer=buffer) for buffer in BUFFERS]
        outages = self._site.faults(self._past.keys, self._members, self._some_chance())
        poison = PoisonSession(self._past, listeners[0], self._plan.victims, self._some_chance())
        faults = [
            worker_faults(self._workers, self._witness, self._some_chance(), self._plan.lease),
            outages,
            member_faults(self._members, self._some_chance(), self._plan.lease),
            [poison],
        ]
        archiving = [self._archive.watch()] if self._archive else []
        subscribers = self._subscribers(listeners)
        async with running([self._witness.watch(), *archiving, *(each.run() for each in subscribers)]):
            await self._hurt(clients, faults, poison)
            self._workers.replace_ended()
            self._history.poisoned = frozenset(poison.poisoned)
            self._history.failovers = sum(fault.count for fault in outages if isinstance(fault, Failover))
            self._history.flushes = sum(fault.count for fault in outages if isinstance(fault, FlushAll))
            self._history.losses = [time for fault in outages if isinstance(fault, Loss) for time in fault.times]
            for each in subscribers:
                each.rests = False
            settled_after = await self._settle()
        self._history.glimpses = self._witness.glimpses
        self._history.sessions = await stored_sessions(listeners[0])
        return Result(
            self._history,
            {fault.name: fault.count for kind in faults for fault in kind},
            self._witness.changes(),
            settled_after,
            [*self._workers.died, *self._members.died],
            poison.redriven,
        )

    async def _hurt(
        self, clients: Sequence[Turnstream], faults: Sequence[Sequence[Fault]], poison: PoisonSession
    ) -> None:
        """Apply faults while producers work; in the end the producers finish, or go away while a primary dies."""
        producers = self._producers(clients)
        tasks = [asyncio.create_task(producer.run()) for producer in producers]
        try:
            deadline = monotonic() + self._plan.seconds
            await asyncio.gather(*(self._strike(kind, deadline) for kind in faults))
            with suppress(TimeoutError):
                # If a member gets no share, the checker reports why.
                await self._change()
            with suppress(TimeoutError):
                async with asyncio.timeout(BOUND):
                    await poison.end()
            self._history.redriven = frozenset(poison.poisoned)
            failover = next((fault for kind in faults for fault in kind if isinstance(fault, Failover)), None)
            if failover:
                await self._leave(producers, tasks, clients, failover)
            for producer in producers:
                producer.stopping = True
            await asyncio.wait(tasks, timeout=BOUND)
        finally:
            await ended(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _leave(
        self,
        producers: Sequence[Producer],
        tasks: Sequence[asyncio.Task[None]],
        clients: Sequence[Turnstream],
        failover: Failover,
    ) -> None:
        """End all producers at the moment of a failover, so that no client resends its commands."""
        await asyncio.sleep(BEHIND)
        await failover.begin()
        await asyncio.sleep(BEHIND)
        for producer in producers:
            producer.abandon()
        await ended(tasks)
        for client in clients:
            await client.aclose()
        await failover.finish()
        failover.count += 1

    async def _strike(self, faults: Sequence[Fault], deadline: float) -> None:
        """Apply faults one after the other, all of them in every round; the first round is made in any case."""
        chance = self._some_chance()
        first = True
        while first or monotonic() < deadline:
            for fault in chance.sample(faults, len(faults)):
                if first or monotonic() < deadline:
                    await asyncio.sleep(chance.uniform(0, CALM))
                    await fault.strike()
            first = False

    async def _change(self) -> None:
        """Stop workers while commands flow and there is no other fault, to measure how long a hand-over takes."""
        workers = self._workers

        async def shared() -> bool:
            workers.replace_ended()
            return self._witness.owners() == {worker.name for worker in workers.alive}

        for how in (STOPPED, KILLED) * self._plan.changes:
            await until(shared)
            worker = self._chance.choice(workers.alive)
            workers.remove(worker)
            self._witness.goes(worker.name, how + IN_PEACE)
            await (worker.drain() if how == STOPPED else asyncio.to_thread(worker.kill))
            workers.start()
        await until(shared)

    async def _settle(self) -> float:
        """Wait for rest and read what is left; the checker judges whether it came. Returns the seconds until then."""
        began = rest = monotonic()

        async def at_rest() -> bool:
            nonlocal rest
            # What follows takes its time where much has happened.
            rest = monotonic()
            if await self._ending.backlog() or not await self._ending.all_owned():
                return False
            # To read and judge all takes seconds, in which the proxies in this process pass nothing on.
            if not await self._ending.nothing_waits_for(NAME):
                return False
            await self._read()
            # While it is read, a worker that came last may be handed its share: then there was no rest yet.
            if not all(end.lease == end.token for end in self._history.partitions):
                return False
            late = next(no_gap_in_silence(self._history), None) or next(all_is_handled_in_order(self._history), None)
            return late is None

        try:
            await until(at_rest)
        except TimeoutError:
            await self._read()
        return rest - began

    async def _read(self) -> None:
        self._history.partitions = await self._ending.partitions()
        self._members.replace_ended()
        self._history.handled = self._members.handled()

    def _producers(self, clients: Sequence[Turnstream]) -> list[Producer]:
        """Give most sessions one producer, and every fourth one two."""
        producers: list[Producer] = []
        for number, session_id in enumerate(self._plan.session_ids):
            for name in "ab" if number % 4 == 0 else "a":
                client, chance = clients[len(producers) % len(clients)], self._some_chance()
                forges = not self._site.forgets
                producers.append(Producer(f"p{number}{name}", session_id, client, self._history, chance, forges=forges))
        return producers

    def _subscribers(self, clients: Sequence[Turnstream]) -> list[Subscriber]:
        """Spread the kinds over clients, whose subscriptions may hold little or much."""
        heads = self._ending.heads
        return [
            Subscriber(kind, clients[number % len(clients)], self._history, heads, self._some_chance())
            for number, kind in enumerate(KINDS)
        ]

    def _some_chance(self) -> Random:
        return Random(self._chance.random())

    async def _client(self, **changes: int) -> Turnstream:
        settings = replace(self._settings.at(self._site.for_clients), **changes)
        client = await Turnstream.connect(settings=settings)
        self._open.push_async_callback(client.aclose)
        return client
