"""Decides the invariants I1 to I11 (design §7) over the history of a run; each is one small function.

What a history cannot show it does not claim: of I4 these are the consequences (a stale writer would tear the chains).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import msgspec
from tests.chaos.accounts import Account
from tests.chaos.history import Glimpse, History, PartitionEnd, Sent, Told, cause_of, place_of
from tests.chaos.members import missed, out_of_order

from turnstream import AddMessage, AddMessages, ChatMessage, CreateSession, UpdateMessage, UpdateTokenMetrics
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.events import AnyEvent, MessageAdded, SessionCreated, SessionDeleted
from turnstream.domain.evolve import fold
from turnstream.errors import DuplicateMismatch
from turnstream.ports import Outcome

ALWAYS_EFFECTIVE = (AddMessage, AddMessages, CreateSession, UpdateMessage, UpdateTokenMetrics)
"""Commands that change something whenever they are not rejected."""


class Violation(msgspec.Struct, frozen=True):
    """An invariant that does not hold, and where."""

    invariant: str
    what: str
    partition: int | None = None
    session_id: str | None = None
    command_ids: Sequence[str] = ()
    stream_ids: Sequence[str] = ()

    def __str__(self) -> str:
        places = {
            "partition": self.partition,
            "session": self.session_id,
            "commands": ", ".join(self.command_ids) or None,
            "events": ", ".join(self.stream_ids) or None,
        }
        where = "; ".join(f"{name} {value}" for name, value in places.items() if value is not None)
        return f"{self.invariant}: {self.what} ({where})" if where else f"{self.invariant}: {self.what}"


Violations = Iterator[Violation]


def check(history: History) -> list[Violation]:
    """Return every violation of the run."""
    return [violation for invariant in INVARIANTS.values() for violation in invariant(history)]


# ── commands and their effects ───────────────────────────────────────────────────────────────────────────────────────


def at_most_one_effect(history: History) -> Violations:
    """I1: the events of a command id are those of one application, of a command that was sent, as it was sent."""
    commands = history.commands
    for command_id, events in history.events_by_command().items():
        if [e.meta.event_id for e in events if e.meta] != [f"{command_id}:{n}" for n in range(len(events))]:
            yield _about(events, "I1", "a command has more than one effect")
        elif command_id not in commands:
            yield _about(events, "I1", "a command has an effect that nobody sent")
        elif not _as_asked(commands[command_id].command, events):
            yield _about(events, "I1", "the effect is not what the command says")


def state_is_the_fold(history: History) -> Violations:
    """I2: versions are contiguous in every life of a session, and what is stored is the fold of the events."""
    by_session = history.events_by_session()
    for events in by_session.values():
        for before, event in pairwise([None, *events]):
            if not _follows(before, event):
                yield _about([event] if event else [], "I2", "a version does not follow the one before")
    for session_id in by_session.keys() | history.sessions.keys():
        events = by_session.get(session_id, [])
        try:
            expected = fold(events)
        except Exception as error:  # noqa: BLE001 - whatever it is, the events do not fit together
            yield _about(events[-1:], "I2", f"the events cannot be folded: {error!r}")
            continue
        if history.sessions.get(session_id) != expected:
            what = "the stored session is not the fold of its events"
            yield Violation("I2", what, session_id=session_id, stream_ids=[place_of(e) for e in events[-1:]])


def in_order(history: History) -> Violations:
    """I3: a producer's commands of a session have their effects in the order in which they were sent."""
    commands = history.commands
    for events in history.events_by_session().values():
        latest: dict[str, tuple[Sent, AnyEvent]] = {}
        for event in events:
            sent = commands.get(cause_of(event))
            if sent is None:
                continue
            earlier, before = latest.get(sent.producer, (sent, event))
            if sent.number < earlier.number and not (history.failovers and _came_again(sent, earlier)):
                yield _about([before, event], "I3", f"number {sent.number} was applied after number {earlier.number}")
            latest[sent.producer] = (sent, event)


def nothing_lost(history: History) -> Violations:
    """I6: what was accepted or answered ended as an outcome, the one that was told, or is parked."""
    outcomes, parked, effects = history.outcomes, history.parked, history.events_by_command()
    # The modes promise nothing of a command that is only queued, and the strict ones all of what was told.
    accepted_counts = not history.failovers
    told_counts = accepted_counts or history.durability != "memory"
    for command_id, sent in history.commands.items():
        outcome = outcomes.get(command_id)
        if outcome is None:
            counts = (sent.accepted and accepted_counts) or (sent.told and told_counts)
            if counts and command_id not in parked:
                yield _of(sent, "I6", "an accepted command is neither applied nor parked")
            continue
        told = [answer for answer in sent.told if told_counts and not _agrees(answer, outcome)]
        if told:
            yield _of(sent, "I6", f"the producer was told {told[0]}, recorded is {_told(outcome)}")
        if not _fits(outcome, sent.command, effects.get(command_id, [])):
            yield _of(sent, "I6", f"the outcome {_told(outcome)} does not fit to the events")


def success_survives(history: History) -> Violations:
    """I8: in the strict modes of durability a success that was told is there in the end, whatever failed over."""
    outcomes = history.outcomes
    if history.durability == "memory":
        return
    for command_id, sent in history.commands.items():
        if any(answer.code == "ok" for answer in sent.told) and command_id not in outcomes:
            yield _of(sent, "I8", f"a success told in mode {history.durability} did not survive")


def other_payload_is_refused(history: History) -> Violations:
    """I10: a command id that is used again for another payload is answered with `DuplicateMismatch`, always."""
    originals = history.commands
    for sent in history.sent:
        if sent.fingerprint == originals[sent.command_id].fingerprint:
            continue
        if any(answer.code != DuplicateMismatch.code for answer in sent.told):
            yield _of(sent, "I10", f"another payload under a used id was answered {sent.told}")


def poison_stays_in_its_session(history: History) -> Violations:
    """I11: only sessions that were poisoned are parked."""
    parked = history.parked
    for command_id, sent in history.commands.items():
        if command_id in parked and sent.session_id not in history.poisoned:
            yield _of(sent, "I11", "a command of a session without poison is parked")


# ── partitions and their owners ──────────────────────────────────────────────────────────────────────────────────────


def one_writer(history: History) -> Violations:
    """I4: the events of a partition are one chain, and tokens are never followed by older ones."""
    for end in history.partitions:
        yield from _one_chain(end)
    for before, after in _neighbours(history):
        if _epoch(after.token) < _epoch(before.token):
            what = f"token {after.token} was written after {before.token}"
            yield Violation("I4", what, after.partition)


def cursor_never_goes_back(history: History) -> Violations:
    """I5: within a generation neither the cursor nor the sequence of a partition ever goes back."""
    for before, after in _neighbours(history):
        if before.generation != after.generation:
            continue
        if _position(after.cursor) < _position(before.cursor):
            yield Violation("I5", f"the cursor went from {before.cursor} back to {after.cursor}", after.partition)
        if after.sequence < before.sequence:
            yield Violation("I5", f"the sequence went from {before.sequence} back to {after.sequence}", after.partition)


def all_is_settled(history: History) -> Violations:
    """I9: after the faults no command waits, and every partition has one owner."""
    for end in history.partitions:
        if end.backlog:
            yield Violation("I9", f"{end.backlog} commands still wait", end.number)
        if not end.lease or end.lease != end.token:
            yield Violation("I9", f"the lease is {end.lease!r}, the token {end.token!r}", end.number)


# ── subscribers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def no_gap_in_silence(history: History) -> Violations:
    """I7: a subscriber sees all that happens from its opening on, once and in order, but what it is told is gone."""
    for listening in history.listenings:
        if listening.failed:
            yield Violation("I7", f"{listening.subscriber} was ended: {listening.failed}")
        for end in history.partitions:
            account = Account(listening, end.number)
            what = account.repeated or account.differs_from([_identity(e) for e in end.events if listening.is_for(e)])
            if what:
                yield Violation("I7", f"{listening.subscriber} {what}", end.number)


def all_is_handled_in_order(history: History) -> Violations:
    """I7 of a durable subscription: each event is handled, a session's in order, unless its loss was told."""
    for end in history.partitions:
        handled = [one for one in history.handled if one.partition == end.number]
        for event in missed(handled, end.events)[:1]:
            yield _about([event], "I7", "no member of the durable subscription handled an event")
        for session_id in out_of_order(handled, end.events):
            what = "its events were handled by a durable subscription in another order"
            yield Violation("I7", what, end.number, session_id)


INVARIANTS: dict[str, Callable[[History], Violations]] = {
    "I1": at_most_one_effect,
    "I2": state_is_the_fold,
    "I3": in_order,
    "I4": one_writer,
    "I5": cursor_never_goes_back,
    "I6": nothing_lost,
    "I7": no_gap_in_silence,
    "I7, durable": all_is_handled_in_order,
    "I8": success_survives,
    "I9": all_is_settled,
    "I10": other_payload_is_refused,
    "I11": poison_stays_in_its_session,
}


# ── details ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _about(events: Sequence[AnyEvent], invariant: str, what: str) -> Violation:
    first = events[0] if events else None
    partition = first.meta.partition if first and first.meta else None
    causes = list(dict.fromkeys(map(cause_of, events)))
    return Violation(
        invariant, what, partition, first.session_id if first else None, causes, [place_of(e) for e in events]
    )


def _of(sent: Sent, invariant: str, what: str) -> Violation:
    return Violation(invariant, what, session_id=sent.session_id, command_ids=[sent.command_id])


def _came_again(sent: Sent, earlier: Sent) -> bool:
    """Tell whether a failover may have taken the first copy of a command: not those that were answered before."""
    return sent.sends > 1 and sent.round == earlier.round


def _as_asked(command: ChangingCommand, events: Sequence[AnyEvent]) -> bool:
    """Tell whether the messages that were added are the command's; other effects are judged by their order only."""
    added = [event.message for event in events if isinstance(event, MessageAdded)]
    if events[0].session_id != command.session_id:
        return False
    return added == _messages(command)


def _messages(command: ChangingCommand) -> list[ChatMessage]:
    match command:
        case AddMessage(message=message):
            return [message]
        case AddMessages(messages=messages):
            return list(messages)
        case _:
            return []


def _follows(before: AnyEvent | None, event: AnyEvent | None) -> bool:
    """Tell whether an event may stand behind another of its session; the events of a command share a version."""
    if event is None:
        return True
    if before is None or isinstance(before, SessionDeleted):
        return isinstance(event, SessionCreated) and event.version == 1
    if event.incarnation != before.incarnation or isinstance(event, SessionCreated):
        return False
    return event.version == before.version + (cause_of(event) != cause_of(before))


def _agrees(answer: Told, outcome: Outcome) -> bool:
    recorded = _told(outcome)
    return answer == recorded if answer.code == "ok" else answer.code == recorded.code


def _told(outcome: Outcome) -> Told:
    return Told(outcome.error.code) if outcome.error else Told("ok", outcome.version)


def _fits(outcome: Outcome, command: ChangingCommand, events: Sequence[AnyEvent]) -> bool:
    if outcome.error:
        return not events
    if not events:
        return not isinstance(command, ALWAYS_EFFECTIVE)
    return isinstance(events[-1], SessionDeleted) or events[-1].version == outcome.version


def _one_chain(end: PartitionEnd) -> Violations:
    of_type: dict[str, int] = {}
    of_session: dict[tuple[str, str], int] = {}
    for sequence, event in enumerate(end.events, start=1):
        life = (event.session_id, event.incarnation)
        links = (sequence, of_type.get(event.type, 0), of_session.get(life, 0))
        meta = event.meta
        if not meta or (meta.sequence, meta.previous_of_type, meta.previous_of_session) != links:
            yield _about([event], "I4", f"the chain of events is torn: expected {links}")
            return
        of_type[event.type] = of_session[life] = sequence
    if len(end.events) != end.sequence:
        yield Violation("I4", f"{len(end.events)} events, the partition counts {end.sequence}", end.number)


def _neighbours(history: History) -> Iterator[tuple[Glimpse, Glimpse]]:
    """Yield what was seen of each partition one behind the other, unless a replica took over in between."""
    by_partition: dict[int, list[Glimpse]] = {}
    for glimpse in history.glimpses:
        by_partition.setdefault(glimpse.partition, []).append(glimpse)
    for seen in by_partition.values():
        for before, after in pairwise(seen):
            # A server that restarts on its files has another id, too, and must have kept everything.
            if not history.failovers or before.replication_id == after.replication_id:
                yield before, after


def _epoch(token: str) -> int:
    return int(token.partition("-")[0])


def _position(stream_id: str) -> tuple[int, int]:
    time, _, number = stream_id.partition("-")
    return int(time), int(number)


def _identity(event: AnyEvent) -> tuple[int, str]:
    return (event.meta.sequence, event.meta.event_id) if event.meta else (0, "")
