"""The checker on histories made by hand: it is silent on a good one, and names the invariant that a bad one breaks."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from tests.chaos.checker import check
from tests.chaos.history import Glimpse, Gone, Handled, History, Listening, PartitionEnd, Reply, Seen, Sent
from tests.contract.model import Model

from turnstream import AddMessage, ChatMessage, ChatMessageRole, CreateSession, SessionConfig, TextContent
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.events import AnyEvent, EventMeta, MessageAdded
from turnstream.ports import Outcome, Rejection

AT = datetime(2026, 11, 1, tzinfo=UTC)
MS = 1_793_491_200_000
LOSS = (5.0, 6.0)


def adding(number: int) -> AddMessage:
    return AddMessage(
        "s", ChatMessage(id=f"m{number}", role=ChatMessageRole.USER, content=(TextContent("Hello"),), created_at=AT)
    )


COMMANDS: list[ChangingCommand] = [CreateSession(SessionConfig("openai", "gpt-4"), "s"), *map(adding, range(1, 4))]


def good() -> History:
    """One producer, one session, four commands applied; one subscriber of all from the second event on."""
    model = Model()
    for number, command in enumerate(COMMANDS):
        model.apply(f"c{number}", command, MS)
    events = [placed(event, sequence) for sequence, event in enumerate(model.events, start=1)]
    outcomes = {f"c{number}": Outcome("ok", "hash", number + 1) for number in range(4)}
    sent = [
        Sent(f"c{n}", "p", n, command, accepted=True, replies=[Reply("ok", n + 1)])
        for n, command in enumerate(COMMANDS)
    ]
    seen: list[Seen | Gone] = [Seen(0, event.meta.sequence, event.meta.event_id) for event in events[1:] if event.meta]
    handled = [Handled("m1", 0, event.meta.sequence, event.meta.event_id, "s", "g") for event in events if event.meta]
    return History(
        seed=7,
        sent=sent,
        listenings=[Listening("all", {0: 1}, seen=seen)],
        handled=[*handled[:3], *handled[1:]],
        glimpses=[Glimpse(0.0, 0, "1-w1", "g", "5-0", 1), Glimpse(1.0, 0, "2-w2", "g", "9-0", 4)],
        partitions=[PartitionEnd(0, "2-w2", "2-w2", "g", "9-0", 4, 0, events, outcomes)],
        sessions=model.sessions,
    )


def seen_up_to_the_end(first: int) -> list[Seen | Gone]:
    return [Seen(0, sequence, f"c{sequence - 1}:0") for sequence in range(first, 5)]


def reported_the_end(member: str) -> Handled:
    return Handled(member, 0, 4, gone=Gone(0, "failover", 1, 5, 4))


def told_of_retention(member: str) -> Handled:
    return Handled(member, 0, 3, gone=Gone(0, "retention", 2, 1, 3, "g"))


def placed(event: AnyEvent, sequence: int, cause: str | None = None, index: int = 0) -> AnyEvent:
    """Give an event its place, as the only one, or another one, of its command."""
    command_id = cause or f"c{sequence - 1}"
    of_type = sequence - 1 if sequence > 2 else 0
    meta = EventMeta(
        event_id=f"{command_id}:{index}",
        partition=0,
        generation="g",
        sequence=sequence,
        previous_of_type=of_type,
        previous_of_session=sequence - 1,
        command_id=command_id,
    )
    return replace(event, meta=meta)


def found(history: History) -> set[str]:
    return {violation.invariant for violation in check(history)}


def end_with(history: History, **changes: object) -> None:
    history.partitions = [replace(history.partitions[0], **changes)]


def test_a_good_history_has_no_violation() -> None:
    assert check(good()) == []


# ── one way to break each ────────────────────────────────────────────────────────────────────────────────────────────


def applied_twice(history: History) -> None:
    events = history.partitions[0].events
    again = placed(replace(events[3], version=5), 5, "c3")
    end_with(history, events=[*events, again], sequence=5)


def never_sent(history: History) -> None:
    history.sent.pop()


def another_effect(history: History) -> None:
    history.sent[2] = replace(history.sent[2], command=adding(9))


def version_skipped(history: History) -> None:
    events = [replace(e, version=e.version + (e.version > 2)) for e in history.partitions[0].events]
    end_with(history, events=events)


def stored_otherwise(history: History) -> None:
    history.sessions["s"] = replace(history.sessions["s"], messages=history.sessions["s"].messages[::-1])


def not_stored(history: History) -> None:
    history.sessions.clear()


def stored_without_events(history: History) -> None:
    history.sessions["t"] = replace(history.sessions["s"], id="t")


def deleted_without_an_event(history: History) -> None:
    events = history.partitions[0].events
    end_with(history, events=[events[0], placed(replace(events[0], version=2), 2), *events[2:]])


def out_of_order(history: History) -> None:
    events = history.partitions[0].events
    swapped = [placed(replace(events[3], version=3), 3, "c3"), placed(replace(events[2], version=4), 4, "c2")]
    end_with(history, events=[*events[:2], *swapped])


def torn_chain(history: History) -> None:
    events = history.partitions[0].events
    assert events[3].meta
    stale = replace(events[3], meta=replace(events[3].meta, previous_of_session=1))
    end_with(history, events=[*events[:3], stale])


def sequence_without_an_event(history: History) -> None:
    end_with(history, sequence=5)


def old_token_again(history: History) -> None:
    history.glimpses.append(Glimpse(2.0, 0, "1-w1", "g", "9-0", 4))


def old_token_in_another_generation(history: History) -> None:
    history.glimpses.append(Glimpse(2.0, 0, "1-w1", "h", "9-0", 4))


def cursor_back(history: History) -> None:
    history.glimpses.append(Glimpse(2.0, 0, "2-w2", "g", "8-9", 4))


def sequence_back(history: History) -> None:
    history.glimpses.append(Glimpse(2.0, 0, "2-w2", "g", "9-0", 3))


def accepted_and_lost(history: History) -> None:
    history.sent.append(Sent("lost", "p", 9, adding(9), accepted=True))


def told_and_lost(history: History) -> None:
    history.sent.append(Sent("lost", "p", 9, adding(9), replies=[Reply("ok", 5)]))


def told_otherwise(history: History) -> None:
    history.sent[3].replies.append(Reply("ok", 9))


def told_a_rejection_that_was_none(history: History) -> None:
    history.sent[3].replies.append(Reply("session-not-found"))


def success_without_events(history: History) -> None:
    history.sent.append(Sent("c4", "p", 4, adding(9), replies=[Reply("ok", 5)]))
    history.partitions[0].outcomes["c4"] = Outcome("ok", "hash", 5)


def rejected_with_events(history: History) -> None:
    history.sent[3].replies = [Reply("message-already-exists")]
    error = Rejection("message-already-exists", "")
    history.partitions[0].outcomes["c3"] = Outcome("rejected", "hash", 3, error)


def seen_with_a_gap(history: History) -> None:
    del history.listenings[0].seen[1]


def seen_twice(history: History) -> None:
    history.listenings[0].seen.insert(1, history.listenings[0].seen[0])


def seen_what_never_was(history: History) -> None:
    history.listenings[0].seen[-1] = Seen(0, 4, "c3:9")


def end_not_seen(history: History) -> None:
    history.listenings[0].seen.pop()


def type_with_a_gap(history: History) -> None:
    of_type = Listening("messages", {0: 2}, [MessageAdded.type], seen=[Seen(0, 4, "c3:0")])
    history.listenings.append(of_type)


def not_handled(history: History) -> None:
    history.handled = [one for one in history.handled if one.sequence != 3]


def told_of_retention_of_what_it_has_handled_itself(history: History) -> None:
    history.handled.append(told_of_retention("m1"))


def told_that_handled_ones_are_gone(history: History) -> None:
    not_handled(history)
    history.handled.append(Handled("m1", 0, 4, gone=Gone(0, "failover", 0, 4, 4)))


def handled_out_of_order(history: History) -> None:
    history.handled.insert(1, history.handled[2])


def handled_and_taken_back_in_silence(history: History) -> None:
    history.handled.append(Handled("m1", 0, 5, "gone:0", "s", "g"))


def handled_and_taken_back_before_it_was_handled(history: History) -> None:
    history.handled += [reported_the_end("m1"), Handled("m1", 0, 5, "gone:0", "s", "g")]


def handled_by_another_whose_history_was_not_reported(history: History) -> None:
    history.handled += [reported_the_end("m1"), Handled("m2", 0, 5, "gone:0", "s", "another")]


def taken_back_and_not_handled_again(history: History) -> None:
    history.handled.append(Handled("m1", 0, 2, gone=Gone(0, "failover", 2, 4, 2)))


def told_of_a_flush_of_the_history_that_is_left(history: History) -> None:
    history.handled.append(Handled("m1", 0, 0, gone=Gone(0, "reset", None, 3, 0, "g")))


def handled_again_in_another_order(history: History) -> None:
    again = [Handled("m1", 0, n, f"c{n - 1}:0", "s", "g") for n in (4, 3)]
    history.handled += [Handled("m1", 0, 2, gone=Gone(0, "failover", 2, 4, 2)), *again]


def numbers_below_its_start_given_again(history: History) -> None:
    history.listenings.append(Listening("late", {0: 3}, seen=[Gone(0, "failover", 2, 3, 1), *seen_up_to_the_end(4)]))


def session_with_a_gap(history: History) -> None:
    history.listenings.append(Listening("a session", {0: 2}, session_id="s", seen=[Seen(0, 4, "c3:0")]))


def subscription_ended(history: History) -> None:
    history.listenings[0].failed = "Unavailable"


def loss_told_in_another_place(history: History) -> None:
    history.listenings[0].seen[1:2] = [Gone(0, "retention", 1, 1, 2)]


def loss_told_after_what_follows(history: History) -> None:
    seen_with_a_gap(history)
    history.listenings[0].seen.append(Gone(0, "retention", 1, 4, 5))


def given_again_after_a_loss(history: History) -> None:
    history.listenings[0].seen.insert(2, Gone(0, "retention", 0, 3, 3))
    history.listenings[0].seen.insert(3, Seen(0, 3, "c2:0"))


def taken_back_in_silence(history: History) -> None:
    history.listenings[0].seen[-1:] = [Seen(0, 4, "gone:0"), Seen(0, 5, "gone:1")]


def taken_back_and_not_given_again(history: History) -> None:
    history.listenings[0].seen.append(Gone(0, "failover", 2, 4, 2))


def less_taken_back_than_was_lost(history: History) -> None:
    history.listenings[0].seen[-1:] = [Seen(0, 4, "gone:0"), Seen(0, 5, "gone:1"), Gone(0, "failover", 1, 5, 4)]


def flushed_and_seen_in_part(history: History) -> None:
    history.listenings[0].seen.append(Gone(0, "reset", None, 4, 0))


def success_did_not_survive(history: History) -> None:
    history.durability, history.failovers = "replicated", 1
    history.sent.append(Sent("lost", "p", 9, adding(9), replies=[Reply("ok", 5)]))


def rejection_did_not_survive(history: History) -> None:
    history.durability, history.failovers = "replicated", 1
    history.sent.append(Sent("lost", "p", 9, adding(9), replies=[Reply("message-already-exists")]))


def told_otherwise_in_a_strict_mode(history: History) -> None:
    history.durability, history.failovers = "replicated", 1
    told_otherwise(history)


def overtaken_before_the_loss(history: History) -> None:
    overtaken_in_one_round(history)
    history.sent[2].until = LOSS[0] - 1


def overtaken_after_the_loss(history: History) -> None:
    overtaken_in_one_round(history)
    history.sent[2].since = LOSS[1] + 1


def overtaken_and_not_sent_again_after_its_answer(history: History) -> None:
    overtaken_in_one_round(history)
    history.sent[3].round = 2


def overtaken_by_what_was_sent_after_the_answer(history: History) -> None:
    overtaken_in_one_round(history)
    history.durability, history.sent[2].sends, history.sent[3].round = "replicated", 2, 2


def cursor_back_on_one_server_of_many(history: History) -> None:
    history.failovers = 1
    cursor_back(history)


def cursor_back_through_a_restart(history: History) -> None:
    history.glimpses.append(Glimpse(2.0, 0, "2-w2", "g", "8-9", 4, "another"))


def backlog_left(history: History) -> None:
    end_with(history, backlog=1)


def nobody_owns_it(history: History) -> None:
    end_with(history, lease="")


def the_owner_is_another(history: History) -> None:
    end_with(history, lease="1-w1")


def producer_without_an_answer(history: History) -> None:
    history.sent.append(Sent("c9", "p", 9, adding(9), sends=3, waited=130.0))


def other_payload_accepted(history: History) -> None:
    history.sent.append(Sent("c3", "p", 3, adding(9), replies=[Reply("ok", 4)]))


def parked_without_poison(history: History) -> None:
    history.sent.append(Sent("c4", "p", 4, adding(9), accepted=True))
    end_with(history, parked=frozenset({"c4"}))


def told_that_it_is_parked_and_lost(history: History) -> None:
    history.sent.append(Sent("c4", "p", 4, adding(9), sends=1, parked=1))
    history.poisoned = frozenset({"s"})


def told_that_it_is_parked_without_poison(history: History) -> None:
    history.sent[3].parked = 1


def parked_behind_its_redrive(history: History) -> None:
    parked_with_poison(history)
    history.redriven = frozenset({"s"})


BROKEN: list[tuple[str, Callable[[History], None]]] = [
    ("I1", applied_twice),
    ("I1", never_sent),
    ("I1", another_effect),
    ("I2", version_skipped),
    ("I2", stored_otherwise),
    ("I2", not_stored),
    ("I2", stored_without_events),
    ("I2", deleted_without_an_event),
    ("I3", out_of_order),
    ("I3", overtaken_before_the_loss),
    ("I3", overtaken_after_the_loss),
    ("I3", overtaken_and_not_sent_again_after_its_answer),
    ("I3", overtaken_by_what_was_sent_after_the_answer),
    ("I4", torn_chain),
    ("I4", sequence_without_an_event),
    ("I4", old_token_again),
    ("I4", old_token_in_another_generation),
    ("I5", cursor_back),
    ("I5", cursor_back_on_one_server_of_many),
    ("I5", cursor_back_through_a_restart),
    ("I5", sequence_back),
    ("I6", accepted_and_lost),
    ("I6", told_and_lost),
    ("I6", told_that_it_is_parked_and_lost),
    ("I6", told_otherwise),
    ("I6", told_otherwise_in_a_strict_mode),
    ("I6", rejection_did_not_survive),
    ("I6", told_a_rejection_that_was_none),
    ("I6", success_without_events),
    ("I6", rejected_with_events),
    ("I7", seen_with_a_gap),
    ("I7", seen_twice),
    ("I7", seen_what_never_was),
    ("I7", end_not_seen),
    ("I7", type_with_a_gap),
    ("I7", not_handled),
    ("I7", told_that_handled_ones_are_gone),
    ("I7", told_of_retention_of_what_it_has_handled_itself),
    ("I7", handled_out_of_order),
    ("I7", handled_and_taken_back_in_silence),
    ("I7", handled_and_taken_back_before_it_was_handled),
    ("I7", handled_by_another_whose_history_was_not_reported),
    ("I7", taken_back_and_not_handled_again),
    ("I7", told_of_a_flush_of_the_history_that_is_left),
    ("I7", handled_again_in_another_order),
    ("I7", numbers_below_its_start_given_again),
    ("I7", session_with_a_gap),
    ("I7", subscription_ended),
    ("I7", loss_told_in_another_place),
    ("I7", loss_told_after_what_follows),
    ("I7", given_again_after_a_loss),
    ("I7", taken_back_in_silence),
    ("I7", taken_back_and_not_given_again),
    ("I7", less_taken_back_than_was_lost),
    ("I7", flushed_and_seen_in_part),
    ("I8", success_did_not_survive),
    ("I9", backlog_left),
    ("I9", nobody_owns_it),
    ("I9", the_owner_is_another),
    ("I9", producer_without_an_answer),
    ("I10", other_payload_accepted),
    ("I11", parked_without_poison),
    ("I11", told_that_it_is_parked_without_poison),
    ("I11", parked_behind_its_redrive),
]


@pytest.mark.parametrize(("invariant", "damage"), BROKEN, ids=[damage.__name__ for _, damage in BROKEN])
def test_a_damaged_history_has_violations(invariant: str, damage: Callable[[History], None]) -> None:
    history = good()
    damage(history)
    assert invariant in found(history)


# ── what is allowed ──────────────────────────────────────────────────────────────────────────────────────────────────


def unknown_and_never_queued(history: History) -> None:
    history.sent.append(Sent("c9", "p", 9, adding(9)))


def other_payload_refused(history: History) -> None:
    history.sent.append(Sent("c3", "p", 3, adding(9), replies=[Reply("duplicate-mismatch")]))


def trimmed_events_were_reported(history: History) -> None:
    history.listenings[0].seen[1:2] = [Gone(0, "retention", 1, 2, 3)]


def taken_back_and_given_again(history: History) -> None:
    seen = history.listenings[0].seen
    seen[2:2] = [Seen(0, 4, "gone:0"), Seen(0, 5, "gone:1"), Gone(0, "failover", 2, 5, 3)]


def flushed_and_seen_again(history: History) -> None:
    seen = history.listenings[0].seen
    seen[:0] = [Seen(0, 2, "gone:0"), Seen(0, 3, "gone:1"), Gone(0, "reset", None, 3, 0), Seen(0, 1, "c0:0")]


def a_filter_sees_its_own(history: History) -> None:
    own = [Seen(0, number, f"c{number - 1}:0") for number in (3, 4)]
    history.listenings.append(Listening("messages of s", {0: 2}, [MessageAdded.type], "s", [*own]))
    history.listenings.append(Listening("another session", {0: 2}, session_id="t"))


def heard_before_the_heads_were_read(history: History) -> None:
    history.listenings[0].seen.insert(0, Seen(0, 1, "c0:0"))


def told_that_history_is_gone(history: History) -> None:
    history.handled = [Handled("m1", 0, 3, gone=Gone(0, "retention", 3, 0, 3)), history.handled[-1]]


def a_loss_by_retention_reported_late(history: History) -> None:
    """By a consumer that was paused; the other has handled all, and handles some of it again."""
    again = [Handled("m1", 0, n, f"c{n - 1}:0", "s", "g") for n in (4, 3, 4)]
    history.handled += [Handled("m2", 0, 2, gone=Gone(0, "retention", 1, 1, 2, "g")), *again]


def handled_and_taken_back(history: History) -> None:
    history.handled += [Handled("m1", 0, 5, "gone:0", "s", "g"), reported_the_end("m2")]


def handled_by_one_who_was_replaced_before(history: History) -> None:
    history.handled += [reported_the_end("m2"), Handled("m1", 0, 5, "gone:0", "s", "g")]


def handled_flushed_and_handled_again(history: History) -> None:
    gone = [Handled("m1", 0, n, f"gone:{n}", "t", "f") for n in (1, 2, 3)]
    history.handled[:0] = [*gone, Handled("m1", 0, 0, gone=Gone(0, "reset", None, 3, 0))]


def told_of_a_flush_when_others_were_further(history: History) -> None:
    gone = [Handled("m1", 0, n, f"gone:{n}", "t", "f") for n in (1, 2, 3)]
    history.handled[:0] = gone
    history.handled.append(Handled("m1", 0, 0, gone=Gone(0, "reset", None, 3, 0, "f")))


def told_of_retention_when_others_were_further(history: History) -> None:
    """It was paused as the owner, and checks its position before it learns that it is no longer the owner."""
    history.handled.append(told_of_retention("m2"))


def what_was_below_its_start_was_taken_back(history: History) -> None:
    history.listenings.append(Listening("late", {0: 3}, seen=[Gone(0, "failover", 2, 3, 1), *seen_up_to_the_end(2)]))


def its_producer_has_gone_away(history: History) -> None:
    history.sent.append(Sent("c9", "p", 9, adding(9), sends=1, abandoned=True))


def parked_and_redriven(history: History) -> None:
    history.sent[3].replies, history.sent[3].parked = [], 1
    history.poisoned = history.redriven = frozenset({"s"})


def redriven_and_parked_again_by_a_failover(history: History) -> None:
    parked_behind_its_redrive(history)
    history.failovers = 1


def lost_by_a_flush(history: History) -> None:
    told_and_lost(history)
    history.flushes = 1
    history.glimpses.append(Glimpse(2.0, 0, "1-w1", "h", "1-0", 1))


def sent_again_long_after_its_first_copy_was_lost(history: History) -> None:
    overtaken_in_one_round(history)
    session, events = Model(), history.partitions[0].events
    for command_id, command in (("c0", COMMANDS[0]), ("c1", COMMANDS[1]), ("c3", COMMANDS[3]), ("c2", COMMANDS[2])):
        session.apply(command_id, command, MS)
    history.sessions = session.sessions
    history.sent[2].sends, history.sent[3].round = 2, 2
    seen = [(event.meta.sequence, event.meta.event_id) for event in events if event.meta]
    history.listenings[0].seen = [Seen(0, *one) for one in seen[1:]]
    history.handled = [Handled("m1", 0, *one, "s", "g") for one in seen]


def parked_with_poison(history: History) -> None:
    parked_without_poison(history)
    history.poisoned = frozenset({"s"})


def lost_by_a_failover(history: History) -> None:
    told_and_lost(history)
    history.failovers = 1


def queued_and_lost_in_a_strict_mode(history: History) -> None:
    accepted_and_lost(history)
    history.durability, history.failovers = "replicated", 1


def overtaken_in_one_round(history: History) -> None:
    """The failover lost the first copy of a command, and the client's resend comes after the next command."""
    out_of_order(history)
    history.failovers, history.losses = 1, [LOSS]
    history.sent[2].sends, history.sent[2].since, history.sent[2].until = 1, LOSS[0] - 1, LOSS[1] + 1
    for sent, version in ((history.sent[3], 3), (history.sent[2], 4)):
        sent.replies = [Reply("ok", version)]
        history.partitions[0].outcomes[sent.command_id] = Outcome("ok", "hash", version)


def the_replica_was_behind(history: History) -> None:
    history.failovers = 1
    history.glimpses.append(Glimpse(2.0, 0, "1-w1", "g", "8-9", 3, "another"))


def another_generation(history: History) -> None:
    history.glimpses.append(Glimpse(2.0, 0, "2-w2", "h", "1-0", 2))


def handled_late_though_retention_had_taken_it(history: History) -> None:
    """A failover led to a server that had not let it go yet."""
    first, second, *others = history.handled
    taken = Handled("m1", 0, 2, gone=Gone(0, "retention", 1, 1, 2))
    history.handled = [first, taken, *others, second]


ALLOWED = [
    unknown_and_never_queued,
    other_payload_refused,
    trimmed_events_were_reported,
    taken_back_and_given_again,
    flushed_and_seen_again,
    a_filter_sees_its_own,
    heard_before_the_heads_were_read,
    told_that_history_is_gone,
    a_loss_by_retention_reported_late,
    handled_and_taken_back,
    handled_late_though_retention_had_taken_it,
    handled_by_one_who_was_replaced_before,
    handled_flushed_and_handled_again,
    told_of_a_flush_when_others_were_further,
    told_of_retention_when_others_were_further,
    what_was_below_its_start_was_taken_back,
    its_producer_has_gone_away,
    parked_and_redriven,
    redriven_and_parked_again_by_a_failover,
    lost_by_a_flush,
    sent_again_long_after_its_first_copy_was_lost,
    parked_with_poison,
    lost_by_a_failover,
    queued_and_lost_in_a_strict_mode,
    the_replica_was_behind,
    another_generation,
]


@pytest.mark.parametrize("change", ALLOWED)
def test_allowed_histories_have_no_violation(change: Callable[[History], None]) -> None:
    history = good()
    change(history)
    assert check(history) == []


def test_a_second_copy_may_follow_the_rest_of_its_round() -> None:
    history = good()
    overtaken_in_one_round(history)
    # The order is fine; the session, and what the subscriber saw, are left as they were.
    assert found(history) == {"I2", "I7"}


def test_a_violation_names_its_place() -> None:
    history = good()
    out_of_order(history)
    (text,) = [str(violation) for violation in check(history) if violation.invariant == "I3"]
    assert text == "I3: number 2 was applied after number 3 (partition 0; session s; commands c3, c2; events 3-0, 4-0)"
