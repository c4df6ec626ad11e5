"""What a run leaves behind for the checker: what producers sent and were told, what others saw, and the end."""

from collections.abc import Collection, Iterator, Mapping
from math import inf
from typing import Literal

import msgspec

from turnstream.client.listening.resync import Reason
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.events import AnyEvent
from turnstream.domain.models import Session
from turnstream.ports import Outcome

Durability = Literal["memory", "replicated", "fsync"]

Span = tuple[float, float]
"""From one moment to another, in seconds of the run's clock."""


class Told(msgspec.Struct, frozen=True):
    """An answer: `ok` or the code of the rejection, and the session's version where the answer names it."""

    code: str
    version: int = 0


class Sent(msgspec.Struct):
    """A command as a producer sent it, perhaps several times; `number` counts its commands, in the order sent.

    Commands of one `round` are under way together; the next round begins when all of them have been answered. It was
    first sent at `since`, and last answered at `until`, which is endless while an answer is waited for.

    `accepted` when a send has returned: the command was queued. `told` has every answer, none while it is unknown;
    `parked` counts those that say that it is parked. `abandoned` when its producer went away before it had an answer.
    The same id with another payload is another `Sent`, behind the first one.
    """

    command_id: str
    producer: str
    number: int
    command: ChangingCommand
    accepted: bool = False
    told: list[Told] = msgspec.field(default_factory=list[Told])
    sends: int = 0
    waited: float = 0.0
    since: float = 0.0
    until: float = inf
    round: int = 0
    parked: int = 0
    abandoned: bool = False

    @property
    def answers(self) -> int:
        """How often it was answered."""
        return len(self.told) + self.parked

    @property
    def session_id(self) -> str:
        """The session that it is about."""
        return self.command.session_id or ""

    @property
    def fingerprint(self) -> bytes:
        """What tells two payloads apart."""
        return self.command.type.encode() + msgspec.json.encode(self.command)


class Seen(msgspec.Struct, frozen=True):
    """An event that a subscriber got."""

    partition: int
    sequence: int
    event_id: str


class Gone(msgspec.Struct, frozen=True):
    """What a subscriber was told to be gone: the last sequence it saw, and the one behind which it goes on.

    `generation` is that of the history in which it saw it.
    """

    partition: int
    reason: Reason
    lost: int | None
    seen: int
    sequence: int
    generation: str = ""

    @property
    def kept(self) -> int:
        """The last sequence of what was seen that is not taken back."""
        if self.reason == "retention":
            return self.seen
        return 0 if self.lost is None else max(0, self.seen - self.lost)


class Listening(msgspec.Struct):
    """A subscriber from its first opening to the end of the run, through all lost connections and new starts.

    `heads` are the sequences of the partitions when it was open: all behind them is its own to see. A subscriber of
    some `types`, or of a session, sees those events only. `failed` is why it ended, which it should not.
    """

    subscriber: str
    heads: Mapping[int, int]
    types: Collection[str] = ()
    session_id: str | None = None
    seen: list[Seen | Gone] = msgspec.field(default_factory=list[Seen | Gone])
    failed: str | None = None

    def is_for(self, event: AnyEvent) -> bool:
        """Tell whether an event was asked for."""
        return (not self.types or event.type in self.types) and self.session_id in (None, event.session_id)


class Handled(msgspec.Struct, frozen=True):
    """What a handler was given: an event of a generation, or, in `gone`, that history is gone."""

    member: str
    partition: int
    sequence: int
    event_id: str = ""
    session_id: str = ""
    generation: str = ""
    gone: Gone | None = None


class Glimpse(msgspec.Struct, frozen=True):
    """A partition's hash as a witness saw it at some moment, on a server with this replication id."""

    at: float
    partition: int
    token: str
    generation: str
    cursor: str
    sequence: int
    replication_id: str = ""


class PartitionEnd(msgspec.Struct, frozen=True):
    """What a partition holds when all is quiet; `lease` is empty where it has no owner.

    `events` are all of its history, also those that retention has taken.
    """

    number: int
    lease: str
    token: str
    generation: str
    cursor: str
    sequence: int
    backlog: int
    events: list[AnyEvent]
    outcomes: dict[str, Outcome]
    parked: frozenset[str] = frozenset()


class History(msgspec.Struct):
    """A whole run. `handled` is what the members of a durable subscription did, in that order.

    `failovers` counts the replicas that were promoted, `flushes` how often all was deleted, and `losses` are the times
    in which that was done; `poisoned` names the sessions meant to park, `redriven` those of them that were redriven,
    all other faults over.
    """

    seed: int
    sent: list[Sent] = msgspec.field(default_factory=list[Sent])
    listenings: list[Listening] = msgspec.field(default_factory=list[Listening])
    handled: list[Handled] = msgspec.field(default_factory=list[Handled])
    glimpses: list[Glimpse] = msgspec.field(default_factory=list[Glimpse])
    partitions: list[PartitionEnd] = msgspec.field(default_factory=list[PartitionEnd])
    sessions: dict[str, Session] = msgspec.field(default_factory=dict[str, Session])
    durability: Durability = "memory"
    failovers: int = 0
    flushes: int = 0
    losses: list[Span] = msgspec.field(default_factory=list[Span])
    poisoned: frozenset[str] = frozenset()
    redriven: frozenset[str] = frozenset()

    @property
    def is_lossy(self) -> bool:
        """Whether something was done by which servers lose history."""
        return bool(self.failovers or self.flushes)

    @property
    def commands(self) -> dict[str, Sent]:
        """The first payload under each command id: the one that counts."""
        first: dict[str, Sent] = {}
        for sent in self.sent:
            first.setdefault(sent.command_id, sent)
        return first

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """Every recorded outcome by its command id."""
        return {i: outcome for end in self.partitions for i, outcome in end.outcomes.items()}

    @property
    def parked(self) -> frozenset[str]:
        """The ids of all parked commands."""
        return frozenset(command_id for end in self.partitions for command_id in end.parked)

    def events_by_session(self) -> dict[str, list[AnyEvent]]:
        """Each session's events in the order of its partition's stream."""
        found: dict[str, list[AnyEvent]] = {}
        for event in self._events():
            found.setdefault(event.session_id, []).append(event)
        return found

    def events_by_command(self) -> dict[str, list[AnyEvent]]:
        """Each command's events in the order of its partition's stream."""
        found: dict[str, list[AnyEvent]] = {}
        for event in self._events():
            found.setdefault(cause_of(event), []).append(event)
        return found

    def _events(self) -> Iterator[AnyEvent]:
        for end in self.partitions:
            yield from end.events


def cause_of(event: AnyEvent) -> str:
    """Return the id of the command that caused an event."""
    return event.meta.command_id if event.meta else ""


def place_of(event: AnyEvent) -> str:
    """Return the id of an event's entry in its stream."""
    return f"{event.meta.sequence}-0" if event.meta else "?"
