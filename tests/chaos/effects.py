"""The invariants of commands and their effects."""

from collections.abc import Sequence
from itertools import pairwise

from tests.chaos.history import History, Reply, Sent, cause_of, place_of
from tests.chaos.violations import Violation, Violations, about, of

from turnstream import AddMessage, AddMessages, ChatMessage, CreateSession, UpdateMessage, UpdateTokenMetrics
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.events import AnyEvent, MessageAdded, SessionCreated, SessionDeleted
from turnstream.domain.evolution import fold
from turnstream.errors import DuplicateMismatch
from turnstream.ports import Outcome

ALWAYS_EFFECTIVE = (AddMessage, AddMessages, CreateSession, UpdateMessage, UpdateTokenMetrics)
"""Commands that change something whenever they are not rejected."""


def at_most_one_effect(history: History) -> Violations:
    """I1: the events of a command id are those of one application, of a command that was sent, as it was sent."""
    commands = history.commands
    for command_id, events in history.events_by_command().items():
        if [e.meta.event_id for e in events if e.meta] != [f"{command_id}:{n}" for n in range(len(events))]:
            yield about(events, "I1", "a command has more than one effect")
        elif command_id not in commands:
            yield about(events, "I1", "an effect has no command that was sent")
        elif not _as_asked(commands[command_id].command, events):
            yield about(events, "I1", "the effect differs from the command")


def state_is_the_fold(history: History) -> Violations:
    """I2: versions are contiguous in every life of a session, and the stored session is the fold of its events."""
    by_session = history.events_by_session()
    for events in by_session.values():
        for before, event in pairwise([None, *events]):
            if not _follows(before, event):
                yield about([event] if event else [], "I2", "a version does not follow the one before")
    for session_id in by_session.keys() | history.sessions.keys():
        events = by_session.get(session_id, [])
        try:
            expected = fold(events)
        except Exception as error:  # noqa: BLE001 - whatever it is, the events do not fit together
            yield about(events[-1:], "I2", f"the events cannot be folded: {error!r}")
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
            if sent.number < earlier.number and not _came_again(history, sent, earlier):
                yield about([before, event], "I3", f"number {sent.number} was applied after number {earlier.number}")
            latest[sent.producer] = (sent, event)


def nothing_lost(history: History) -> Violations:
    """I6: each accepted or answered command ended in an outcome, the one that was replied, or is parked."""
    outcomes, parked, effects = history.outcomes, history.parked, history.events_by_command()
    # No durability level promises anything for a queued command; the strict ones promise every reply.
    accepted_counts = not history.is_lossy
    replies_count = accepted_counts or history.durability != "memory"
    for command_id, sent in history.commands.items():
        outcome = outcomes.get(command_id)
        if outcome is None:
            counts = (sent.accepted and accepted_counts) or (sent.answers and replies_count)
            if counts and command_id not in parked:
                yield of(sent, "I6", "an accepted command is neither applied nor parked")
            continue
        wrong = [answer for answer in sent.replies if replies_count and not _agrees(answer, outcome)]
        if wrong:
            yield of(sent, "I6", f"the producer received {wrong[0]}, recorded is {_reply_of(outcome)}")
        if not _fits(outcome, sent.command, effects.get(command_id, [])):
            yield of(sent, "I6", f"the outcome {_reply_of(outcome)} does not fit the events")


def success_survives(history: History) -> Violations:
    """I8: with strict durability, a success that was replied exists at the end, after any failover."""
    outcomes = history.outcomes
    if history.durability == "memory":
        return
    for command_id, sent in history.commands.items():
        if any(answer.code == "ok" for answer in sent.replies) and command_id not in outcomes:
            yield of(sent, "I8", f"a success that was replied with durability {history.durability} did not survive")


def other_payload_is_refused(history: History) -> Violations:
    """I10: a command id that is used again for another payload is answered with `DuplicateMismatch`, always."""
    originals = history.commands
    for sent in history.sent:
        if sent.fingerprint == originals[sent.command_id].fingerprint:
            continue
        if any(answer.code != DuplicateMismatch.code for answer in sent.replies):
            yield of(sent, "I10", f"another payload under a used id was answered {sent.replies}")


def poison_stays_in_its_session(history: History) -> Violations:
    """I11: only sessions that were poisoned are parked, and none of them still when they have been redriven."""
    parked = history.parked
    for command_id, sent in history.commands.items():
        if sent.session_id in history.poisoned:
            if command_id in parked and sent.session_id in history.redriven and not history.is_lossy:
                yield of(sent, "I11", "a command is still parked, although its session was redriven")
        elif command_id in parked:
            yield of(sent, "I11", "a command of a session without poison is parked")
        elif sent.parked:
            yield of(sent, "I11", "the producer of a session without poison received that it is parked")


def _came_again(history: History, sent: Sent, earlier: Sent) -> bool:
    """Return whether the first copy of a command may have been lost, so that a later one is another copy.

    The client resends an unanswered command automatically. Only the producer resends an answered one, and it is applied
    again only with the durability level that promises nothing for replies.
    """
    sent_again = sent.round == earlier.round or (sent.sends > 1 and history.durability == "memory")
    return sent_again and any(sent.since <= end and begin <= sent.until for begin, end in history.losses)


def _as_asked(command: ChangingCommand, events: Sequence[AnyEvent]) -> bool:
    """Return whether the added messages are those of the command; other effects are judged only by their order."""
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
    """Return whether an event may follow another of its session; the events of a command share a version."""
    if event is None:
        return True
    if before is None or isinstance(before, SessionDeleted):
        return isinstance(event, SessionCreated) and event.version == 1
    if event.incarnation != before.incarnation or isinstance(event, SessionCreated):
        return False
    return event.version == before.version + (cause_of(event) != cause_of(before))


def _agrees(answer: Reply, outcome: Outcome) -> bool:
    recorded = _reply_of(outcome)
    return answer == recorded if answer.code == "ok" else answer.code == recorded.code


def _reply_of(outcome: Outcome) -> Reply:
    return Reply(outcome.error.code) if outcome.error else Reply("ok", outcome.version)


def _fits(outcome: Outcome, command: ChangingCommand, events: Sequence[AnyEvent]) -> bool:
    if outcome.error:
        return not events
    if not events:
        return not isinstance(command, ALWAYS_EFFECTIVE)
    return isinstance(events[-1], SessionDeleted) or events[-1].version == outcome.version
