"""A run of chaos: producers at full speed while workers, network and servers are hurt, then a check of the history.

    producers, subscribers,
    members (processes)    ──▶ proxy "clients" ──┐
                                                 ├──▶ server (append-only file, synced before each answer)
    workers (processes)    ──▶ proxy "workers" ──┘          ▲
                                              witness ──────┘

or, without proxies, a cluster of three primaries with a replica each, in which nobody is told before a replica has it.
Seeded: the same seed sends the same commands and chooses the same faults; how they meet is the machine's.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from time import monotonic

import msgspec
from pydantic import SecretStr
from redis.exceptions import RedisError
from tests.chaos.ending import Ending, stored_sessions
from tests.chaos.faults import Fault, worker_faults
from tests.chaos.history import History
from tests.chaos.members import Members, member_faults, missed
from tests.chaos.processes import Workers
from tests.chaos.producers import Producer
from tests.chaos.sites import SITES, Site
from tests.chaos.subscribers import Kind, Subscriber, have_caught_up, have_seen_all
from tests.chaos.witness import IN_PEACE, KILLED, STOPPED, Witness

from turnstream import MessageAdded, SessionConfigUpdated, SessionDeleted, SessionUpdated, Turnstream
from turnstream.adapters.redis.backend import server_at
from turnstream.errors import Unavailable
from turnstream.settings import Settings

BOUND = 120.0
"""Seconds within which all must be settled after the faults; generous, for a busy machine."""
CALM = 0.3
"""Seconds between two faults of a kind, at most."""

BUFFERS = (10_000, 100)
"""Events that the subscriptions of each listening client may hold."""
KINDS = (
    Kind("everything"),
    Kind("everything, pausing", habit="pausing"),
    Kind("messages", (MessageAdded,)),
    Kind("messages, restarting", (MessageAdded,), habit="restarting"),
    Kind("a rare type", (SessionDeleted,)),
    Kind("some types", (SessionDeleted, SessionUpdated, SessionConfigUpdated)),
    Kind("a session", session_id="s0"),
    Kind("everything, restarting", habit="restarting"),
)
"""The subscribers of a run."""


class Plan(msgspec.Struct, frozen=True):
    """How a run is made: its seed and length in seconds, and how much is going on."""

    seed: int
    seconds: float
    sessions: int = 24
    clients: int = 3
    workers: int = 3
    members: int = 2
    """Processes of a durable subscription to all events."""
    partitions: int = 8
    lease: float = 1.0
    changes: int = 5
    """How many workers are drained, and as many killed, when all else is well again."""

    def settings(self, site: Site) -> Settings:
        """Return settings that keep everything for the checker: events, and outcomes for longer than the run."""
        return Settings(
            redis_url=SecretStr(site.url),
            durability=site.durability,
            namespace="chaos",
            partitions=self.partitions,
            lease=self.lease,
            deduplication_window=max(3_600.0, 4 * self.seconds),
            event_retention=100_000_000,
        )


class Result(msgspec.Struct):
    """What a run was: its history, and figures that are told and never judged."""

    history: History
    faults: dict[str, int]
    changes: Mapping[str, Sequence[float]]
    settled_after: float
    died: Sequence[str]
    without_server: int


async def run(plan: Plan, site: str, directory: Path) -> Result:
    """Make a run on one of `SITES`; the workers' logs, and the files of one server, are left in the directory."""
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
        self._ending = Ending(self._past)
        self._directory = directory
        self._members = Members(self._environment(site.for_clients), directory)
        open_things.callback(self._members.close)

    async def play(self) -> Result:
        """Start all, hurt it, let it come to rest, and read what is left."""
        workers = Workers(self._environment(self._site.for_workers), self._directory)
        self._open.callback(workers.close)
        for _ in range(self._plan.workers):
            workers.start()
        await self._until(self._ending.all_owned)
        for _ in range(self._plan.members):
            self._members.start()
        clients = [await self._client() for _ in range(self._plan.clients)]
        listeners = [await self._client(subscriber_buffer=buffer) for buffer in BUFFERS]
        faults = [
            worker_faults(workers, self._witness, Random(self._chance.random()), self._plan.lease),
            self._site.faults(self._past.keys, Random(self._chance.random())),
            member_faults(self._members, Random(self._chance.random()), self._plan.lease),
        ]
        async with _running([self._witness.watch(), *self._subscribers(listeners)]):
            await self._hurt(self._producers(clients), faults, workers)
            workers.replace_ended()
            settled_after = await self._settle()
        self._history.failovers = sum(fault.count for kind in faults for fault in kind if fault.fails_over)
        return Result(
            await self._complete(clients[0]),
            {fault.name: fault.count for kind in faults for fault in kind},
            self._witness.changes(),
            settled_after,
            [*workers.died, *self._members.died],
            workers.without_server,
        )

    async def _hurt(self, producers: Sequence[Producer], faults: Sequence[Sequence[Fault]], workers: Workers) -> None:
        async with asyncio.timeout(self._plan.seconds + 2 * BOUND), asyncio.TaskGroup() as tasks:
            for producer in producers:
                tasks.create_task(producer.run())
            deadline = monotonic() + self._plan.seconds
            strikes = [tasks.create_task(self._strike(kind, deadline)) for kind in faults]
            await asyncio.wait(strikes)
            with suppress(TimeoutError):
                # Where not everybody gets a share, the checker says what is wrong.
                await self._change(workers)
            for producer in producers:
                producer.stopping = True

    async def _strike(self, faults: Sequence[Fault], deadline: float) -> None:
        """Apply faults one after the other, all of them in every round; the first round is made in any case."""
        chance = Random(self._chance.random())
        first = True
        while first or monotonic() < deadline:
            for fault in chance.sample(faults, len(faults)):
                if first or monotonic() < deadline:
                    await asyncio.sleep(chance.uniform(0, CALM))
                    await fault.strike()
            first = False

    async def _change(self, workers: Workers) -> None:
        """Let workers go while commands flow and nothing else goes wrong: how long that takes is told apart."""

        async def shared() -> bool:
            workers.replace_ended()
            return self._witness.owners() == {worker.name for worker in workers.alive}

        for how in (STOPPED, KILLED) * self._plan.changes:
            await self._until(shared)
            worker = self._chance.choice(workers.alive)
            workers.remove(worker)
            self._witness.goes(worker.name, how + IN_PEACE)
            await (worker.drain() if how == STOPPED else asyncio.to_thread(worker.kill))
            workers.start()
        await self._until(shared)

    async def _settle(self) -> float:
        """Wait for rest and read what is left; the checker judges whether it came. Returns the seconds until then."""
        began = rest = monotonic()

        async def at_rest() -> bool:
            nonlocal rest
            if await self._ending.backlog() or not await self._ending.all_owned():
                return False
            if not have_caught_up(self._history, await self._ending.heads()):
                return False
            rest = monotonic()
            # While it is read, a worker that came last may be handed its share: then there was no rest yet.
            self._history.partitions = await self._ending.partitions()
            self._members.replace_ended()
            self._history.handled = self._members.handled()
            events = (event for end in self._history.partitions for event in end.events)
            if missed(self._history.handled, events):
                return False
            is_owned = all(end.lease == end.token for end in self._history.partitions)
            return is_owned and have_seen_all(self._history)

        try:
            await self._until(at_rest)
        except TimeoutError:
            rest = monotonic()
            self._history.partitions = await self._ending.partitions()
        return rest - began

    async def _complete(self, client: Turnstream) -> History:
        self._history.glimpses = self._witness.glimpses
        self._history.sessions = await stored_sessions(client)
        return self._history

    def _producers(self, clients: Sequence[Turnstream]) -> list[Producer]:
        """Give most sessions one producer, and every fourth one two."""
        producers: list[Producer] = []
        for number in range(self._plan.sessions):
            for name in "ab" if number % 4 == 0 else "a":
                client = clients[len(producers) % len(clients)]
                chance = Random(self._chance.random())
                producers.append(Producer(f"p{number}{name}", f"s{number}", client, self._history, chance))
        return producers

    def _subscribers(self, clients: Sequence[Turnstream]) -> list[Awaitable[None]]:
        """Spread the kinds over clients, whose subscriptions may hold little or much."""
        heads = self._ending.heads
        return [
            Subscriber(kind, clients[number % len(clients)], self._history, heads, Random(self._chance.random())).run()
            for number, kind in enumerate(KINDS)
        ]

    async def _client(self, **changes: int) -> Turnstream:
        settings = self._settings.at(self._site.for_clients).model_copy(update=changes)
        client = await Turnstream.connect(settings=settings)
        self._open.push_async_callback(client.aclose)
        return client

    def _environment(self, url: str) -> dict[str, str]:
        names = ("namespace", "partitions", "lease", "deduplication_window", "event_retention", "durability")
        chosen = {f"TURNSTREAM_{name.upper()}": str(getattr(self._settings, name)) for name in names}
        return chosen | {"TURNSTREAM_REDIS_URL": url}

    @staticmethod
    async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(BOUND):
            while True:
                with suppress(RedisError, Unavailable):
                    if await condition():
                        return
                await asyncio.sleep(0.02)


@asynccontextmanager
async def _running(works: Sequence[Awaitable[None]]) -> AsyncGenerator[None]:
    """Have tasks running inside the block; one that fails is raised at its end."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        while not all(task.done() for task in tasks):
            # Again and again: `asyncio.wait_for`, which libraries use, can swallow one before Python 3.12.
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
