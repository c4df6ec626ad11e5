"""The member processes of a durable subscription, and what they wrote down."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

import msgspec
from tests.chaos.processes import GuardedProgram

from turnstream.domain.events import AnyEvent

ROOT = Path(__file__).parents[2]
NAME = "everything"
"""The subscription."""


class Handled(msgspec.Struct, frozen=True):
    """What a handler was given: an event, or, with a reason in `lost`, that history in front of `sequence` is gone."""

    member: str
    partition: int
    sequence: int
    event_id: str = ""
    session_id: str = ""
    lost: str = ""


class MemberProcess(GuardedProgram):
    """`python -m tests.chaos.member`."""

    def __init__(self, name: str, environment: Mapping[str, str], directory: Path, *arguments: str) -> None:
        variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}", **environment, "TURNSTREAM_WORKER_ID": name}
        program = ("-m", "tests.chaos.member", NAME, str(directory / "handled"), *arguments)
        super().__init__(name, program, variables, directory)


class Members:
    """The living members; every new one has a name that none had before."""

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self.alive: list[MemberProcess] = []
        self._environment = environment
        self._directory = directory
        self._started = 0

    def start(self, *arguments: str) -> MemberProcess:
        self._started += 1
        member = MemberProcess(f"m{self._started}", self._environment, self._directory, *arguments)
        self.alive.append(member)
        return member

    def taken_out(self, chance: Random) -> MemberProcess:
        """Choose a member that is about to go; those that found no server at their start are replaced first."""
        for ended in [member for member in self.alive if not member.runs]:
            self.alive.remove(ended)
            ended.kill()
            self.start()
        member = chance.choice(self.alive)
        self.alive.remove(member)
        return member

    def handled(self) -> list[Handled]:
        """Return what was written down, in its order; the last line may be on its way."""
        file = self._directory / "handled"
        whole = file.read_bytes().rpartition(b"\n")[0] if file.exists() else b""
        return [msgspec.json.decode(line, type=Handled) for line in whole.splitlines()]

    def close(self) -> None:
        for member in self.alive:
            member.kill()


def repeats(handled: Sequence[Handled]) -> int:
    """Return how many handlings were not the first ones of their events."""
    events = [one.event_id for one in handled if not one.lost]
    return len(events) - len(set(events))


def missed(handled: Iterable[Handled], events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Return the events that nobody handled."""
    known = {one.event_id for one in handled}
    return [event for event in events if event.meta and event.meta.event_id not in known]


def out_of_order(handled: Iterable[Handled], events: Iterable[AnyEvent]) -> list[str]:
    """Return the sessions whose surviving events were handled for the first time in another order than they happened."""
    survived: dict[str, list[str]] = {}
    for event in events:
        if event.meta:
            survived.setdefault(event.session_id, []).append(event.meta.event_id)
    first: dict[str, dict[str, None]] = {}
    for one in handled:
        first.setdefault(one.session_id, {}).setdefault(one.event_id)
    wrong: list[str] = []
    for session_id, ids in survived.items():
        known = first.get(session_id, {})
        if [event_id for event_id in known if event_id in set(ids)] != [i for i in ids if i in known]:
            wrong.append(session_id)
    return wrong
