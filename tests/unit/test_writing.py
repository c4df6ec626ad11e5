"""A batch as the arguments of the commit script: read here as the script reads them, and carried out on plain dicts."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.given import AT, LATER, Happening, added, created, deleted, given, message, unhurried, updated

from turnstream.adapters.redis.commit.batch_encoder import BatchEncoder, RetentionLimits
from turnstream.adapters.redis.connection.pipelined import Word
from turnstream.adapters.redis.keys import Keys
from turnstream.adapters.redis.outcome_times import OutcomeBuckets
from turnstream.adapters.redis.server import MAX_WORDS
from turnstream.application.commands.batch import WorkingSession
from turnstream.codec.events import decode_event
from turnstream.codec.records import decode_header, decode_message, decode_outcome, milliseconds
from turnstream.domain.events import AnyEvent, EventMeta
from turnstream.domain.handlers import EventFactory
from turnstream.ports import (
    START,
    Batch,
    LoadedSession,
    MalformedEntry,
    Outcome,
    PartitionState,
    RawEntry,
    RecordedOutcome,
    Reply,
    SessionWrite,
    StoredHeader,
)

KEYS = Keys("ts", 4)
PARTITION = KEYS.partitions[1]
WINDOW = 1.0
RETENTION = 7
BETWEEN_MARKS = 1_000
STATE = PartitionState(1, "7-x", "replid", "1-0", "g", 40, {})


class Script:
    """The values that the commit script would read in its arguments (see its header)."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = words
        self._at = 7
        self.fence = list(words[:4])
        self.until = words[4]
        assert words[5] == BETWEEN_MARKS
        self.versions = [tuple(self._take(2)) for _ in range(cast("int", words[6]))]
        self.new = [self._new_fields() for _ in range(self._number())]
        self.events = [self._take(4) for _ in range(self._number())]
        self.writes: list[list[Word]] = []
        while self._at < len(words):
            self.writes.append(self._take(self._number()))

    def named(self, name: str, key: str | None = None) -> list[list[Word]]:
        """Return the arguments of the writes by this command, to this key."""
        return [words[1:] for words in self.writes if words[0] == name and key in (None, words[1])]

    def _number(self) -> int:
        return cast("int", self._take(1)[0])

    def _take(self, count: int) -> list[Word]:
        self._at += count
        return list(self._words[self._at - count : self._at])

    def _new_fields(self) -> tuple[list[str], dict[Word, Word], bool]:
        keys, words, write = (cast("int", word) for word in self._take(3))
        names = cast("list[str]", self._take(keys))
        pairs = self._take(words)
        return names, dict(zip(pairs[::2], pairs[1::2], strict=True)), write == 1


def script(
    *writes: SessionWrite,
    before: PartitionState = STATE,
    cursor: str = "2-0",
    events: Sequence[AnyEvent] = (),
    outcomes: Sequence[RecordedOutcome] = (),
    replies: dict[str, Sequence[Reply]] | None = None,
    malformed: Sequence[MalformedEntry] = (),
) -> Script:
    after = replace(before, cursor=cursor, sequence=before.sequence + len(events))
    batch = Batch(before, after, writes, events, outcomes, replies or {}, malformed)
    return Script(
        BatchEncoder(
            KEYS, batch, OutcomeBuckets(WINDOW).for_batch(batch), RetentionLimits(RETENTION, BETWEEN_MARKS)
        ).words()
    )


def write(past: Sequence[Happening], *happenings: Happening) -> SessionWrite:
    """Let something happen, in one batch, to a session with a past."""
    story = given(*past)
    stored = StoredHeader(story.header, 1) if story.header else None
    messages = story.tail(1_000)
    loaded = LoadedSession(stored, {each.id: each for each in messages}, messages)
    session = WorkingSession("s", stored, loaded)
    for happening in happenings:
        header = session.header
        version = header.version + 1 if header else 1
        session.apply(happening(EventFactory("s", header.incarnation if header else "b1", version, LATER)), 2)
    return session.finished()


def outcome(command_id: str, entry_ms: int) -> RecordedOutcome:
    return RecordedOutcome(command_id, entry_ms, Outcome("ok", "hash", 1))


MESSAGES, ORDER = PARTITION.messages("s"), PARTITION.order("s")
TWO_MESSAGES = [created(), added("m1"), added("m2")]

# ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_checks_concern_the_state_before_the_batch() -> None:
    made = script(write([], created()), replace_id(write(TWO_MESSAGES, added("m3")), "t"))
    assert made.fence == ["7-x", "replid", "1-0", "40"]
    assert made.versions == [(PARTITION.session("s"), ""), (PARTITION.session("t"), "3")]


def replace_id(change: SessionWrite, session_id: str) -> SessionWrite:
    change.session_id = session_id
    return change


def test_numbers_that_are_compared_are_text() -> None:
    large = script(before=replace(STATE, sequence=2**60))
    assert large.fence[3] == str(2**60)


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_session() -> None:
    made = script(write([], created(messages=(message("m1"), message("m2")))))
    (header,) = made.named("HSET", PARTITION.session("s"))
    pairs = [word if isinstance(word, bytes) else str(word).encode() for word in header[1:]]
    assert decode_header(pairs).header.message_count == 2
    (bodies,) = made.named("HSET", MESSAGES)
    assert [decode_message(cast("bytes", body)) for body in bodies[2::2]] == [message("m1"), message("m2")]
    assert made.named("ZADD", ORDER) == [[ORDER, 0, "m1", 1, "m2"]]
    assert made.named("ZADD", PARTITION.index) == [[PARTITION.index, milliseconds(LATER), "s"]]
    assert made.named("UNLINK") == []


def test_an_append_writes_one_message_and_reads_none() -> None:
    made = script(write(TWO_MESSAGES, added("m3")))
    ((keys, fields, written),) = made.new
    assert (keys, list(fields), written) == ([MESSAGES], ["m3"], True)
    assert decode_message(cast("bytes", fields["m3"])) == message("m3")
    assert made.named("HSET", MESSAGES) == []
    assert made.named("ZADD", ORDER) == [[ORDER, 2, "m3"]]


def test_replaced_messages_are_written_after_the_clearing() -> None:
    made = script(write(TWO_MESSAGES, updated(messages=(message("m2"), message("m4")))))
    kinds = [(words[0], words[1]) for words in made.writes if words[1] in {MESSAGES, ORDER}]
    assert kinds == [("UNLINK", MESSAGES), ("HSET", MESSAGES), ("ZADD", ORDER)]
    assert made.named("UNLINK") == [[MESSAGES, ORDER]]
    assert made.named("ZADD", ORDER) == [[ORDER, 2, "m2", 3, "m4"]]


def test_a_deleted_session_leaves_no_key_and_no_place() -> None:
    made = script(write(TWO_MESSAGES, deleted()))
    assert made.named("UNLINK") == [[PARTITION.session("s"), MESSAGES, ORDER]]
    assert made.named("ZREM") == [[PARTITION.index, "s"]]
    assert made.named("HSET", PARTITION.session("s")) == made.named("ZADD") == []


def test_a_message_added_and_removed_must_not_have_existed_before() -> None:
    made = script(write([created()], added("m1"), updated(messages=())))
    assert [(keys, list(fields), written) for keys, fields, written in made.new] == [([MESSAGES], ["m1"], False)]


@pytest.mark.parametrize("count", [MAX_WORDS // 2, 5_000])
def test_no_command_is_longer_than_lua_can_unpack(count: int) -> None:
    many = tuple(message(f"m{number}", "") for number in range(count))
    for made in (
        script(write([created()], *map(added, many))),
        script(write([created()], updated(messages=many))),
        script(outcomes=[outcome(f"c{number}", 500) for number in range(count)]),
    ):
        assert max(len(words) for words in made.writes) <= MAX_WORDS
        assert all(2 + 2 * len(fields) <= MAX_WORDS for _, fields, _ in made.new)


# ── events, outcomes, replies, quarantined entries ───────────────────────────────────────────────────────────────────


def happened(sequence: int, happening: Happening, time: datetime = AT) -> AnyEvent:
    meta = EventMeta(
        event_id=f"c1:{sequence}",
        partition=1,
        generation="g",
        sequence=sequence,
        previous_of_type=0,
        previous_of_session=0,
        command_id="c1",
    )
    return replace(happening(EventFactory("s", "c0", 2, time)), meta=meta)


def test_events_are_kept_under_their_sequence_and_announced_on_both_channels() -> None:
    events = [happened(41, added("m1")), happened(42, deleted())]
    made = script(events=events)
    assert [words[:3] for words in made.events] == [
        ["41-0", "ts:events:message-added", "ts:session:s"],
        ["42-0", "ts:events:session-deleted", "ts:session:s"],
    ]
    assert [decode_event(cast("bytes", words[3])) for words in made.events] == events


def test_outcomes_are_checked_in_every_bucket_that_may_hold_them_and_kept_in_their_own() -> None:
    made = script(outcomes=[outcome("c1", 5_100), outcome("c2", 5_900), outcome("c3", 6_000)], cursor="6000-0")
    found = {keys[-1]: (keys, list(fields)) for keys, fields, written in made.new if written}
    bucket = PARTITION.outcomes
    assert found == {
        bucket(5): ([bucket(4), bucket(5)], ["c1", "c2"]),
        bucket(6): ([bucket(5), bucket(6)], ["c3"]),
    }
    assert decode_outcome(cast("bytes", made.new[0][1]["c1"])).payload_hash == "hash"


def test_the_cursor_moves_after_all_other_writes() -> None:
    unread = MalformedEntry(RawEntry("1-5", {}), "No id")
    made = script(write([], created()), events=[happened(41, added("m1"))], malformed=[unread])
    stored = [words for words in made.writes if words[0] != "PUBLISH"]
    assert stored[-1] == ["HSET", PARTITION.partition, "cursor", "2-0", "sequence", 41, "types", b"{}", "passed", 0]


@pytest.mark.parametrize(
    ("cursor", "trimming"),
    [
        ("1700000000000-7", ["MINID", "1700000000000-8"]),
        ("1700000000000-18446744073709551614", ["MINID", "1700000000000-18446744073709551615"]),
        ("1700000000000-18446744073709551615", ["MINID", "1700000000001-0"]),
        ("18446744073709551615-18446744073709551615", ["MAXLEN", "0"]),
    ],
)
def test_only_applied_entries_are_trimmed(cursor: str, trimming: list[Word]) -> None:
    assert script(cursor=cursor).named("XTRIM") == [[PARTITION.commands, *trimming]]


def test_replies_are_published_last() -> None:
    channel = PARTITION.reply_channel("c")
    made = script(write([], created()), replies={channel: [Reply("c1", "ok", 1), Reply("c2", "ok", 2)]})
    assert made.writes[-1][:2] == ["PUBLISH", channel]
    assert [reply["commandId"] for reply in msgspec.json.decode(cast("bytes", made.writes[-1][2]))] == ["c1", "c2"]


def test_quarantined_entries_are_kept_shortened_with_their_error() -> None:
    fields = {f"f{number}".encode(): b"x" * 100_000 for number in range(3_000)}
    made = script(malformed=[MalformedEntry(RawEntry("5-1", fields), "Not JSON")])
    (entry,) = made.named("XADD", PARTITION.malformed)
    assert entry[:9] == [PARTITION.malformed, "MAXLEN", "~", RETENTION, "*", "entryId", "5-1", "error", "Not JSON"]
    assert len(entry) < 200
    assert max(len(word) for word in entry if isinstance(word, bytes)) == 65_536


def test_an_entry_without_fields_is_quarantined_too() -> None:
    made = script(malformed=[MalformedEntry(RawEntry("5-1", {}), "No id")])
    (entry,) = made.named("XADD", PARTITION.malformed)
    assert entry[-4:] == ["entryId", "5-1", "error", "No id"]


# ── outcomes expire ──────────────────────────────────────────────────────────────────────────────────────────────────


@unhurried
@for_all(st.lists(st.lists(st.integers(0, 5_000), min_size=1, max_size=4), min_size=1, max_size=8))
def test_however_long_a_batch_has_waited_no_outcome_stays_when_the_cursor_has_left_its_window(
    batches: list[list[int]],
) -> None:
    """A batch may hold commands from many windows: the worker was away, and they waited."""
    kept: dict[str, set[Word]] = {}
    now_ms, state = 1_700_000_000_000, replace(STATE, cursor=START)
    for steps in [*batches, [10_000], [10_000]]:
        outcomes: list[RecordedOutcome] = []
        for step in steps:
            now_ms += step
            outcomes.append(outcome(f"c{now_ms}", now_ms))
        made = script(before=state, cursor=f"{now_ms}-0", outcomes=outcomes)
        for keys, fields, written in made.new:
            if written:
                kept.setdefault(keys[-1], set()).update(fields)
        for key in (key for keys in made.named("UNLINK") for key in keys):
            kept.pop(cast("str", key), None)
        state = replace(state, cursor=f"{now_ms}-0")
    assert set().union(*kept.values()) == {f"c{now_ms}"}
