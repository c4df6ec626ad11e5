"""A batch while it is decided: events get their places, commands their outcomes, producers their replies."""

from functools import partial

import msgspec
from tests.unit.given import AT, CATALOGUE, MAX_BYTES, REPLY_TO, SMALL, entry, fields_of, message

from turnstream.adapters.memory import MemoryBackend
from turnstream.application.commands.batch import BatchInProgress, WorkingSession
from turnstream.application.commands.decoder import CommandDecoder, DecodedCommand
from turnstream.codec.records import error_of, milliseconds
from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    AnyCommand,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    UpdateTokenMetrics,
)
from turnstream.domain.models import SessionConfig
from turnstream.errors import DuplicateMismatch, InvalidCommand, SessionNotFound, VersionConflict
from turnstream.ports import Batch, CommandEntry, Outcome, PartitionState, RawEntry, SessionPosition

STATE = PartitionState(
    partition=0,
    token="7-x",
    replication_id="",
    cursor="5-0",
    generation="g",
    sequence=40,
    type_sequences={"message-added": 39, "session-created": 12},
)
MS = milliseconds(AT)


def accepted(sent: CommandEntry) -> DecodedCommand:
    intake = CommandDecoder(0, 1, MAX_BYTES, partial(MemoryBackend(1).channels.is_reply_channel, 0))
    item = intake.read(RawEntry(f"{MS}-0", fields_of(sent)))
    assert isinstance(item, DecodedCommand)
    return item


def decided(*entries: CommandEntry, known: dict[str, Outcome] | None = None) -> Batch:
    """Decide commands on the new sessions `s` and `t`."""
    sessions = {name: WorkingSession(name, None, None) for name in ("s", "t", "")}
    batch = BatchInProgress(STATE, sessions, known or {}, CATALOGUE)
    for each in entries:
        batch.decide(accepted(each))
    return batch.finished("9-9")


def numbered(*commands: AnyCommand) -> list[CommandEntry]:
    return [entry(command, f"c{number}") for number, command in enumerate(commands, start=1)]


# ── events and their positions ───────────────────────────────────────────────────────────────────────────────────────


def test_events_are_numbered_from_the_head_of_the_partition() -> None:
    batch = decided(
        *numbered(
            CreateSession(SMALL, "s"),
            AddMessages("s", (message("m1"), message("m2"))),
            CreateSession(SMALL, "t"),
            AddMessage("t", message("m1")),
        )
    )
    metas = [event.meta for event in batch.events if event.meta]
    assert [meta.sequence for meta in metas] == [41, 42, 43, 44, 45]
    assert [meta.previous_of_type for meta in metas] == [12, 39, 42, 41, 43]
    assert [meta.previous_of_session for meta in metas] == [0, 41, 42, 0, 44]
    assert [meta.event_id for meta in metas] == ["c1:0", "c2:0", "c2:1", "c3:0", "c4:0"]
    assert {(meta.partition, meta.generation) for meta in metas} == {(0, "g")}


def test_the_state_advances_and_keeps_its_fencing_token() -> None:
    after = decided(*numbered(CreateSession(SMALL, "s"), AddMessage("s", message("m1")))).after
    assert (after.cursor, after.sequence, after.token, after.generation) == ("9-9", 42, "7-x", "g")
    assert after.type_sequences == {"message-added": 42, "session-created": 41}
    assert STATE.type_sequences == {"message-added": 39, "session-created": 12}


def test_events_carry_the_trace_of_their_producer() -> None:
    sent = entry(CreateSession(SMALL, "s"), "c1")
    traced = CommandEntry("c1", sent.type, sent.data, None, "request-1", "00-1-2-01")
    meta = decided(traced).events[0].meta
    assert meta is not None
    assert (meta.command_id, meta.correlation_id, meta.traceparent) == ("c1", "request-1", "00-1-2-01")


def test_the_time_of_an_event_is_that_of_its_entry() -> None:
    assert decided(entry(CreateSession(SMALL, "s"))).events[0].timestamp == AT


def test_a_session_that_is_created_again_starts_a_new_chain() -> None:
    batch = decided(*numbered(CreateSession(SMALL, "s"), DeleteSession("s"), CreateSession(SMALL, "s")))
    assert [event.meta.previous_of_session for event in batch.events if event.meta] == [0, 41, 0]


def test_only_sessions_that_changed_are_written() -> None:
    batch = decided(*numbered(CreateSession(SMALL, "s"), DeleteSession("t"), AddMessage("t", message("m1"))))
    assert [write.session_id for write in batch.writes] == ["s"]


def test_a_command_without_events_changes_nothing() -> None:
    batch = decided(*numbered(CreateSession(SMALL, "s"), AddMessages("s", ()), RemoveMessages("s", last=1)))
    assert [recorded.outcome.version for recorded in batch.outcomes] == [1, 1, 1]
    assert len(batch.events) == 1


# ── outcomes and replies ─────────────────────────────────────────────────────────────────────────────────────────────


def test_every_command_has_an_outcome_at_the_time_of_its_entry() -> None:
    batch = decided(*numbered(CreateSession(SMALL, "s"), AddMessage("s", message("m1")), DeleteSession("s")))
    assert [(r.command_id, r.entry_ms, r.outcome.status, r.outcome.version) for r in batch.outcomes] == [
        *(("c1", MS, "ok", 1), ("c2", MS, "ok", 2), ("c3", MS, "ok", 0))
    ]
    assert batch.outcomes[2].outcome.output == msgspec.Raw(b"true")


def test_a_rejection_is_an_outcome_and_the_batch_continues() -> None:
    batch = decided(
        *numbered(
            AddMessage("s", message("m1")),
            CreateSession(SMALL, "s"),
            AddMessage("s", message("m1"), expected_version=7),
            AddMessage("s", message("m1")),
        )
    )
    outcomes = [recorded.outcome for recorded in batch.outcomes]
    assert [(outcome.status, outcome.version) for outcome in outcomes] == [
        *(("rejected", 0), ("ok", 1), ("rejected", 1), ("ok", 2))
    ]
    errors = [error_of(outcome.error) for outcome in outcomes if outcome.error]
    assert [type(error) for error in errors] == [SessionNotFound, VersionConflict]


def test_a_broken_rule_is_a_rejection() -> None:
    broken = CommandEntry("c1", "delete-session", b'{"sessionId":""}')
    negative = CommandEntry("c2", "update-token-metrics", b'{"sessionId":"s","promptTokens":-1}')
    errors = [error_of(r.outcome.error) for r in decided(broken, negative).outcomes if r.outcome.error]
    assert [error.path for error in errors if isinstance(error, InvalidCommand)] == ["$.sessionId", "$.promptTokens"]


def test_replies_repeat_the_outcomes_coalesced_by_client() -> None:
    one, two = "ts:0:reply:one", "ts:0:reply:two"
    batch = decided(
        entry(CreateSession(SMALL, "s"), "c1", one),
        entry(DeleteSession("t"), "c2", two),
        entry(AddMessage("s", message("m1")), "c3", None),
        entry(UpdateTokenMetrics("t", prompt_tokens=1), "c4", one),
    )
    assert {channel: [reply.command_id for reply in replies] for channel, replies in batch.replies.items()} == {
        one: ["c1", "c4"],
        two: ["c2"],
    }
    outcomes = {recorded.command_id: recorded.outcome for recorded in batch.outcomes}
    for reply in (*batch.replies[one], *batch.replies[two]):
        outcome = outcomes[reply.command_id]
        assert (reply.status, reply.version, reply.error, reply.output) == (
            *(outcome.status, outcome.version, outcome.error),
            outcome.output,
        )


# ── a command id twice ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_resend_in_the_same_batch_is_applied_once_and_answered_twice() -> None:
    batch = decided(
        entry(CreateSession(SMALL, "s"), "c1"),
        entry(UpdateTokenMetrics("s", prompt_tokens=5), "c2"),
        entry(UpdateTokenMetrics("s", prompt_tokens=5), "c2"),
    )
    assert [event.type for event in batch.events] == ["session-created", "token-metrics-updated"]
    assert [recorded.command_id for recorded in batch.outcomes] == ["c1", "c2"]
    assert [(reply.command_id, reply.version) for reply in batch.replies[REPLY_TO]] == [("c1", 1), ("c2", 2), ("c2", 2)]


def test_a_resend_of_a_recorded_command_is_answered_as_it_was() -> None:
    first = decided(*numbered(CreateSession(SMALL, "s")))
    known = {recorded.command_id: recorded.outcome for recorded in first.outcomes}
    again = decided(*numbered(CreateSession(SMALL, "s")), known=known)
    assert (again.events, again.outcomes, again.writes) == ([], [], [])
    assert again.replies[REPLY_TO] == first.replies[REPLY_TO]
    assert again.after.sequence == STATE.sequence


def test_a_rejection_is_answered_again_even_if_the_command_would_succeed_now() -> None:
    add = entry(AddMessage("s", message("m1")), "c1")
    batch = decided(add, entry(CreateSession(SMALL, "s"), "c2"), add)
    assert [(reply.command_id, reply.status) for reply in batch.replies[REPLY_TO]] == [
        *(("c1", "rejected"), ("c2", "ok"), ("c1", "rejected"))
    ]


def test_the_same_id_with_another_payload_is_a_mismatch() -> None:
    other = CreateSession(SessionConfig("openai", "large"), "s")
    batch = decided(entry(CreateSession(SMALL, "s"), "c1"), entry(other, "c1"), entry(CreateSession(SMALL, "s"), "c1"))
    replies = batch.replies[REPLY_TO]
    assert [reply.status for reply in replies] == ["ok", "rejected", "ok"]
    assert replies[1].error is not None
    error = error_of(replies[1].error)
    assert (type(error), error.fields) == (DuplicateMismatch, {"command_id": "c1"})
    assert [recorded.outcome.status for recorded in batch.outcomes] == ["ok"]


def test_the_same_data_under_another_type_is_a_mismatch() -> None:
    data = b'{"sessionId":"s"}'
    batch = decided(
        CommandEntry("c1", "delete-session", data, REPLY_TO), CommandEntry("c1", "update-token-metrics", data, REPLY_TO)
    )
    assert [reply.status for reply in batch.replies[REPLY_TO]] == ["ok", "rejected"]


# ── the position of a command, for clients that ask ──────────────────────────────────────────────────────────────────


def asking(command: AnyCommand, command_id: str) -> CommandEntry:
    return msgspec.structs.replace(entry(command, command_id), wants_position=True)


def test_a_command_that_asks_gets_its_position() -> None:
    batch = decided(
        asking(CreateSession(SMALL, "s"), "c1"),
        entry(AddMessage("s", message("m1")), "c2"),
        asking(AddMessages("s", (message("m2"), message("m3"))), "c3"),
        asking(DeleteSession("t"), "c4"),
        asking(AddMessage("s", message("m1")), "c5"),
    )
    first, unasked, third, nothing_happened, rejected = (reply.position for reply in batch.replies[REPLY_TO])
    assert first == SessionPosition("g", 0, 41, MS)
    assert third == SessionPosition("g", 42, 44, MS)
    assert unasked is nothing_happened is rejected is None


def test_a_recorded_outcome_has_no_position() -> None:
    sent = asking(CreateSession(SMALL, "s"), "c1")
    batch = decided(sent, known={"c1": Outcome("ok", accepted(sent).payload_hash, 1)})
    assert [reply.position for reply in batch.replies[REPLY_TO]] == [None]
