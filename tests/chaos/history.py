"""The record of a run for the checker: commands and replies, received events, and the final state."""

from collections.abc import Collection, Iterator, Mapping
from math import inf
from typing import Literal

import msgspec

from turnstream.client.subscriptions.resync import Reason
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.events import AnyEvent
from turnstream.domain.models import Session
from turnstream.ports import Outcome

Durability = Literal["memory", "replicated", "fsync"]

Span = tuple[float, float]
"""From one moment to another, in seconds of the run's clock."""


class Reply(msgspec.Struct, frozen=True):
    """A reply: `ok` or the code of the rejection, and the session's version if the reply has it."""

    code: str
    version: int = 0


class Sent(msgspec.Struct):
    """A command as a producer sent it, perhaps several times; `number` counts its commands, in the order sent.

    Commands of one `round` are in flight together; the next round begins when all of them have been answered. The
    command was first sent at `since` and last answered at `until`, which is infinite until there is a reply.

    `accepted`: a send has returned, so the command was queued. `replies` has every reply; `parked` counts those
    that say that the command is parked. `abandoned`: its producer ended before it had a reply. The same id with another
    payload is another `Sent`, after the first one.
    """

    command_id: str
    producer: str
    number: int
    command: ChangingCommand
    accepted: bool = False
    replies: list[Reply] = msgspec.field(default_factory=list[Reply])
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
        return len(self.replies) + self.parked

    @property
    def session_id(self) -> str:
        """The session that it is about."""
        return self.command.session_id or ""

    @property
    def fingerprint(self) -> bytes:
        """A text that differs between two payloads."""
        return self.command.type.encode() + msgspec.json.encode(self.command)


class Seen(msgspec.Struct, frozen=True):
    """An event that a subscriber got."""

    partition: int
    sequence: int
    event_id: str


class Gone(msgspec.Struct, frozen=True):
    """A gap reported to a subscriber: the last sequence it had received, and the one after which it resumes.

    `generation` is the one in which it had received that sequence.
    """

    partition: int
    reason: Reason
    lost: int | None
    seen: int
    sequence: int
    generation: str = ""

    @property
    def kept(self) -> int:
        """The last received sequence that was not rolled back."""
        if self.reason == "retention":
            return self.seen
        return 0 if self.lost is None else max(0, self.seen - self.lost)


class Listening(msgspec.Struct):
    """A subscriber, from its first connection to the end of the run, through lost connections and restarts.

    `heads` are the last sequences of the partitions when it was open: it must receive all later events. A subscriber to
    some `types`, or to a session, receives only those. `failed` is the error that ended it, which should not happen.
    """

    subscriber: str
    heads: Mapping[int, int]
    types: Collection[str] = ()
    session_id: str | None = None
    seen: list[Seen | Gone] = msgspec.field(default_factory=list[Seen | Gone])
    failed: str | None = None

    def is_for(self, event: AnyEvent) -> bool:
        """Return whether an event was asked for."""
        return (not self.types or event.type in self.types) and self.session_id in (None, event.session_id)


class Handled(msgspec.Struct, frozen=True):
    """A call of a handler: with an event of a generation, or, in `gone`, with a notice of lost history."""

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
    """The final state of a partition; `lease` is empty if it has no owner.

    `events` are all events of its history, including the trimmed ones.
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
    """A whole run. `handled` are the handler calls of a durable subscription's consumers, in order.

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
