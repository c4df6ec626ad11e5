"""Stored records: a header as the fields of a hash, of which a change writes only some; messages as JSON."""

from collections.abc import Sequence
from datetime import UTC

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.given import AT, LATER, SMALL, arbitrary, commands_on_one_session, created, given, unhurried

from turnstream.codec.records import (
    INFO_FIELDS,
    decode_header,
    decode_info,
    decode_message,
    decode_outcome,
    decode_type_sequences,
    encode_changes,
    encode_message,
    encode_outcome,
    encode_type_sequences,
)
from turnstream.domain.commands import ChangingCommand, CreateSession
from turnstream.domain.models import ChatMessage, SessionConfig, SessionHeader, info_of
from turnstream.errors import Rejected
from turnstream.ports import Outcome, Rejection, StoredHeader

Record = dict[bytes, bytes]

in_utc = arbitrary(SessionHeader).map(
    lambda h: replace(h, created_at=h.created_at.astimezone(UTC), updated_at=h.updated_at.astimezone(UTC))
)
stored_headers = st.builds(StoredHeader, in_utc, st.integers(0, 2**53))


def written(record: Record, fields: Sequence[str | bytes | int]) -> Record:
    """Return a hash after HSET, with everything as the bytes that a server keeps."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in fields]
    return {**record, **dict(zip(words[::2], words[1::2], strict=True))}


def read(record: Record) -> StoredHeader:
    return decode_header([word for pair in record.items() for word in pair])


@unhurried
@for_all(stored_headers)
def test_a_header_comes_back_as_it_was(stored: StoredHeader) -> None:
    assert read(written({}, encode_changes(None, stored))) == stored


@unhurried
@for_all(stored_headers, stored_headers)
def test_the_changes_lead_from_any_header_to_any_other(before: StoredHeader, after: StoredHeader) -> None:
    record = written({}, encode_changes(None, before))
    same_time = replace(after.header, created_at=before.header.created_at, id=before.header.id)
    after = StoredHeader(
        same_time if after.header.incarnation == before.header.incarnation else after.header, after.last_sequence
    )
    assert read(written(record, encode_changes(before, after))) == after


@unhurried
@for_all(st.lists(commands_on_one_session, max_size=8))
def test_later_commands_do_not_change_earlier_decisions(commands: list[ChangingCommand]) -> None:
    story, record = given(), dict[bytes, bytes]()
    before: StoredHeader | None = None
    for number, command in enumerate([CreateSession(SMALL, "s"), *commands]):
        try:
            events = story.when(command, command_id=f"c{number}").events
        except Rejected:
            continue
        for event in events:
            story.happen(event)
        if story.header is None:
            continue
        after = StoredHeader(story.header, number)
        record = written(record, encode_changes(before, after))
        before = after
        assert read(record) == after


def test_an_append_rewrites_only_the_changed_fields() -> None:
    header = given(created()).header
    assert header is not None
    after = replace(header, version=2, message_count=1, next_position=1, updated_at=LATER)
    fields = encode_changes(StoredHeader(header, 1), StoredHeader(after, 2))
    assert set(fields[::2]) == {"version", "messageCount", "nextPosition", "updatedAt", "lastSequence"}


@unhurried
@for_all(stored_headers)
def test_a_listing_shows_the_header(stored: StoredHeader) -> None:
    record = written({}, encode_changes(None, stored))
    assert decode_info([record[name.encode()] for name in INFO_FIELDS]) == info_of(stored.header)


@pytest.mark.parametrize("missing", range(len(INFO_FIELDS)))
def test_no_session_has_no_summary(missing: int) -> None:
    header = given(created()).header
    assert header is not None
    record = written({}, encode_changes(None, StoredHeader(header, 1)))
    values = [None if i == missing else record[name.encode()] for i, name in enumerate(INFO_FIELDS)]
    assert decode_info(values) is None
    assert decode_info([None] * len(INFO_FIELDS)) is None


def test_times_keep_their_microseconds() -> None:
    header = given(created()).header
    assert header is not None
    header = replace(header, updated_at=AT.replace(microsecond=1))
    assert read(written({}, encode_changes(None, StoredHeader(header, 1)))).header.updated_at.microsecond == 1


def test_fields_of_a_later_version_are_ignored() -> None:
    header = given(created(SessionConfig("openai", "small", tools=("search",)))).header
    assert header is not None
    stored = StoredHeader(header, 1)
    record = written({}, [*encode_changes(None, stored), "colour", "blue"])
    record[b"config"] = record[b"config"][:-1] + b',"effort":"high"}'
    assert read(record) == stored


@unhurried
@for_all(arbitrary(ChatMessage))
def test_a_message_comes_back_as_it_was(message: ChatMessage) -> None:
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("ok", "hash", 7),
        Outcome("ok", "hash", 7, output=msgspec.Raw(b"false")),
        Outcome("ok", "hash", 7, output=msgspec.Raw(b"[]")),
        Outcome("rejected", "hash", 0, Rejection("version-conflict", "Conflict", {"session_id": "s", "n": 2})),
    ],
)
def test_an_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    again = decode_outcome(encode_outcome(outcome))
    assert msgspec.json.encode(again) == msgspec.json.encode(outcome)
    assert (again.status, again.payload_hash, again.version, again.error) == (
        *(outcome.status, outcome.payload_hash, outcome.version),
        outcome.error,
    )


def test_an_outcome_is_small() -> None:
    """Design §2: about 100 bytes, for there is one of every command in the window."""
    assert len(encode_outcome(Outcome("ok", "0123456789abcdef", 12_345))) <= 100


@unhurried
@for_all(st.dictionaries(st.text(max_size=30), st.integers(0, 2**60)))
def test_sequences_of_types_come_back_as_they_were(sequences: dict[str, int]) -> None:
    assert decode_type_sequences(encode_type_sequences(sequences)) == sequences
