"""The member processes of a durable subscription, and what they wrote down."""

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

import msgspec
from tests.chaos.faults import Fault
from tests.chaos.history import Handled
from tests.chaos.processes import NO_SERVER, GuardedProgram

from turnstream.domain.events import AnyEvent

ROOT = Path(__file__).parents[2]
NAME = "everything"
"""The subscription."""
PATIENCE = 50
"""Looks, a tenth of a second apart, for a member that works."""
ROLLED_BACK, RETENTION = "failover", "retention"
"""The reasons of losses: handled events are gone, or events were trimmed before they were handled."""


class MemberProcess(GuardedProgram):
    """`python -m tests.chaos.member`."""

    def __init__(self, name: str, environment: Mapping[str, str], directory: Path, *arguments: str) -> None:
        variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}", **environment, "TURNSTREAM_WORKER_ID": name}
        program = ("-m", "tests.chaos.member", NAME, str(directory / "handled"), *arguments)
        super().__init__(name, program, variables, directory)


class Members:
    """The living members; every new one has a name that none had before."""

    def __init__(self, environment: Mapping[str, str], directory: Path, refuse: float = 0.0) -> None:
        self.alive: list[MemberProcess] = []
        self.died: list[str] = []
        self.quiet = asyncio.Lock()
        """Held by faults that hurt consumers, or that lose history which consumers remember."""
        self.lease = float(environment["TURNSTREAM_LEASE"])
        self._arguments = ("--refuse", str(refuse)) if refuse else ()
        self._environment = environment
        self._directory = directory
        self._started = 0
        self._handled: list[Handled] = []
        self._read = 0

    def start(self, *arguments: str) -> MemberProcess:
        self._started += 1
        member = MemberProcess(f"m{self._started}", self._environment, self._directory, *self._arguments, *arguments)
        self.alive.append(member)
        return member

    def replace_ended(self) -> None:
        """Replace consumers that ended without being ended, and note those that had no reason."""
        for ended in [member for member in self.alive if not member.runs]:
            if ended.status != NO_SERVER:
                self.died.append(f"{ended.name} (status {ended.status})")
            self.alive.remove(ended)
            # Its watchdog is still there.
            ended.kill()
            self.start()

    async def one_at_work(self, chance: Random) -> MemberProcess:
        """Choose a member that has handled something; a new one, after a while in which none has."""
        for _ in range(PATIENCE):
            self.replace_ended()
            names = {one.member for one in self.handled()}
            working = [member for member in self.alive if member.name in names]
            if working:
                return chance.choice(working)
            await asyncio.sleep(0.1)
        return chance.choice(self.alive)

    def handled(self) -> list[Handled]:
        """Return what was written down, in its order; the last line may be on its way."""
        file = self._directory / "handled"
        if file.exists():
            with file.open("rb") as log:
                log.seek(self._read)
                whole, end, _ = log.read().rpartition(b"\n")
            self._handled += [msgspec.json.decode(line, type=Handled) for line in whole.splitlines()]
            self._read += len(whole + end)
        return list(self._handled)

    def close(self) -> None:
        for member in self.alive:
            member.kill()


class _MemberFault(Fault):
    def __init__(self, members: Members, chance: Random, lease: float) -> None:
        super().__init__()
        self.members = members
        self.chance = chance
        self.lease = lease

    async def apply(self) -> None:
        """Do it to a member that works."""
        async with self.members.quiet:
            await self.hurt(await self.members.one_at_work(self.chance))

    @abstractmethod
    async def hurt(self, member: MemberProcess) -> None:
        """Do it to this one."""


class KillMember(_MemberFault):
    """A member dies in the middle of whatever it does, and another one is started."""

    name = "member killed"

    async def hurt(self, member: MemberProcess) -> None:
        self.members.alive.remove(member)
        await asyncio.to_thread(member.kill)
        self.members.start()


class PauseMember(_MemberFault):
    """A consumer is paused until others own its partitions, and then continues with the event it was handling."""

    name = "member paused beyond its lease"

    async def hurt(self, member: MemberProcess) -> None:
        member.pause()
        try:
            await asyncio.sleep(self.lease * self.chance.uniform(1.2, 2.0))
        finally:
            member.resume()


class DrainMember(_MemberFault):
    """A member is asked to stop, writes down how far it is, and another one takes its place."""

    name = "member drained"

    async def hurt(self, member: MemberProcess) -> None:
        self.members.alive.remove(member)
        self.members.start()
        await member.drain()


def member_faults(members: Members, chance: Random, lease: float) -> list[Fault]:
    """Return the faults of members."""
    return [kind(members, chance, lease) for kind in (KillMember, PauseMember, DrainMember)]


def in_lineage(handled: Iterable[Handled]) -> list[Handled]:
    """Return the events handled in a partition, with each loss before what was handled of the next history.

    A former owner of the partition reports a loss at its next check; others may have handled more by then.
    """
    found: list[Handled] = []
    ranks: dict[str, int] = {}
    for one in handled:
        place = len(found)
        if one.gone and one.gone.generation in ranks:
            rank = ranks[one.gone.generation]
            place = next((n for n, other in enumerate(found) if ranks.get(other.generation, 0) > rank), place)
        found.insert(place, one)
        if one.generation:
            ranks.setdefault(one.generation, len(ranks))
    return found


def repeats(handled: Sequence[Handled]) -> int:
    """Return how many handlings were not the first ones of their events."""
    events = [one.event_id for one in handled if not one.gone]
    return len(events) - len(set(events))


def missed(handled: Iterable[Handled], events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Return the events that no consumer handled and that were not reported as lost."""
    known: set[str] = set()
    reported: dict[int, int] = {}
    for one in handled:
        known.add(one.event_id)
        if one.gone and one.gone.reason != ROLLED_BACK:
            reported[one.partition] = max(one.sequence, reported.get(one.partition, 0))
    metas = ((event, event.meta) for event in events)
    return [
        event
        for event, meta in metas
        if meta and meta.event_id not in known and meta.sequence > reported.get(meta.partition, 0)
    ]


def out_of_order(handled: Iterable[Handled], events: Iterable[AnyEvent]) -> list[str]:
    """Return the sessions whose events, each when it was handled first, are not in the order of the stream.

    An event that was rolled back or reset counts as not handled. An event that was reported as lost may still be
    delivered, after a failover to a server that had not trimmed it: late and in any order.
    """
    sessions = {(m.partition, m.sequence, m.event_id): e.session_id for e in events for m in [e.meta] if m}
    first: dict[int, dict[int, str]] = {}
    reported: dict[int, int] = {}
    for one in handled:
        of_partition = first.setdefault(one.partition, {})
        if one.gone:
            if one.gone.reason == RETENTION:
                # A consumer that was paused may report it late, when others have handled more: that stays handled.
                reported[one.partition] = max(one.sequence, reported.get(one.partition, 0))
            else:
                first[one.partition] = {n: session for n, session in of_partition.items() if n <= one.gone.kept}
                reported[one.partition] = one.sequence if one.gone.reason != ROLLED_BACK else 0
        if one.sequence <= reported.get(one.partition, 0):
            continue
        session_id = sessions.get((one.partition, one.sequence, one.event_id))
        if session_id is not None:
            of_partition.setdefault(one.sequence, session_id)
    orders: dict[str, list[int]] = {}
    for of_partition in first.values():
        for sequence, session_id in of_partition.items():
            orders.setdefault(session_id, []).append(sequence)
    return [session_id for session_id, order in orders.items() if order != sorted(order)]
