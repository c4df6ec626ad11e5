"""From stream entries to commands: an unreadable entry is quarantined with its reason, and answered if possible."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from tests.unit.given import MAX_BYTES, REPLY_TO, entry, fields_of, message, unhurried

from turnstream.adapters.memory import MemoryBackend
from turnstream.application.commands import decoder
from turnstream.application.commands.decoder import CommandDecoder, DecodedCommand, MalformedCommand, payload_hash
from turnstream.codec.envelope import entry_time
from turnstream.codec.records import error_of
from turnstream.domain.commands import AddMessage, AnyCommand, DeleteSession, ListSessions
from turnstream.domain.models import partition_of
from turnstream.errors import InvalidCommand
from turnstream.ports import CommandEntry, RawEntry
from turnstream.ports.values import LAST_MS

DATA = b'{"sessionId":"s"}'


def read(fields: Mapping[bytes, bytes], partition: int = 0, partitions: int = 1) -> DecodedCommand | MalformedCommand:
    channels = MemoryBackend(partitions).channels
    reader = CommandDecoder(partition, partitions, MAX_BYTES, partial(channels.is_reply_channel, partition))
    return reader.read(RawEntry("1700000000123-4", fields))


def raw(**fields: bytes) -> dict[bytes, bytes]:
    whole = {"id": b"c1", "type": b"delete-session", "data": DATA, "replyTo": REPLY_TO.encode(), **fields}
    return {name.encode(): value for name, value in whole.items()}


def set_aside(fields: Mapping[bytes, bytes], partition: int = 0, partitions: int = 1) -> MalformedCommand:
    item = read(fields, partition, partitions)
    assert isinstance(item, MalformedCommand)
    assert item.raw.fields == fields
    return item


def rejection(item: MalformedCommand) -> InvalidCommand:
    """The answer that the producer gets."""
    assert item.reply_to == REPLY_TO
    assert item.reply is not None
    assert (item.reply.command_id, item.reply.status) == ("c1", "rejected")
    assert item.reply.error is not None
    error = error_of(item.reply.error)
    assert isinstance(error, InvalidCommand)
    assert str(error) == item.malformed.error
    return error


def test_a_bug_of_the_reader_quarantines_the_entry_and_names_only_its_class(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def buggy(*_: object) -> None:
        raise OverflowError("a secret")

    monkeypatch.setattr(decoder, "decode_command", buggy)
    item = set_aside(raw())
    assert rejection(item).reason == "The worker failed on it: OverflowError"
    (line,) = caplog.records
    assert (line.message, vars(line)["reason"]) == ("entry not read", "OverflowError")
    assert "a secret" not in caplog.text


@pytest.mark.parametrize(
    ("time", "understood"), [(0, 0), (LAST_MS, LAST_MS), (LAST_MS + 1, LAST_MS), (2**64 - 1, LAST_MS)]
)
def test_an_entry_has_a_time_that_a_date_can_have(time: int, understood: int) -> None:
    assert entry_time(f"{time}-7") == understood
    assert datetime.fromtimestamp(understood / 1000, UTC).year <= 9999


def test_a_command_carries_the_fields_of_its_entry() -> None:
    sent = entry(AddMessage("s", message("m1")))
    item = read(fields_of(sent))
    assert isinstance(item, DecodedCommand)
    assert (item.command, item.entry, item.entry_ms) == (AddMessage("s", message("m1")), sent, 1_700_000_000_123)
    assert item.raw.entry_id == "1700000000123-4"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        (raw(data=b"hello"), "$"),
        (raw(data=b"[" * 100_000), "$"),
        (raw(data=b"x" * (MAX_BYTES + 1)), "$"),
        (raw(data=b'{"sessionId":NaN}'), "$"),
        (raw(data=b'{"sessionId":"\\ud800"}'), "$"),
        (raw(data=b'{"sessionId":5}'), "$.sessionId"),
        (raw(type=b"explode"), "type"),
        (raw(type=b"add-message", data=b'{"sessionId":"s","message":{"id":"m","role":"robot"}}'), "$.message.role"),
    ],
)
def test_a_producer_learns_why_its_command_was_quarantined(fields: Mapping[bytes, bytes], path: str) -> None:
    assert rejection(set_aside(fields)).path == path


@pytest.mark.parametrize("field", ["correlationId", "traceparent"])
@pytest.mark.parametrize("value", [b"x" * 300, b"\xff"])
def test_an_envelope_that_is_wrong_elsewhere_is_replied_to_as_well(field: str, value: bytes) -> None:
    """Its id and its reply channel can be read, so there is a way to its producer (design §4)."""
    assert rejection(set_aside(raw(**{field: value}))).path == field


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "id"),
        ({b"data": b"{}", b"replyTo": REPLY_TO.encode()}, "id"),
        ({b"id": b"c1", b"type": b"t", b"replyTo": b"\xff"}, "replyTo"),
    ],
)
def test_without_an_id_or_a_channel_no_reply_is_sent(fields: dict[bytes, bytes], error: str) -> None:
    item = set_aside(fields)
    assert (item.reply_to, item.reply) == (None, None)
    assert f"at `{error}`" in item.malformed.error


@pytest.mark.parametrize(
    "channel",
    [
        *("ts:events:session-created", "ts:session:s", "ts:1:reply:client", "ts:0:reply:", "ts:0:reply:a b"),
        *("ts:0:reply:client\n", "x" + REPLY_TO, REPLY_TO + ":x", "ts:0:reply:" + "c" * 65, ""),
    ],
)
def test_a_producer_cannot_have_replies_published_anywhere_else(channel: str) -> None:
    item = set_aside(raw(replyTo=channel.encode()))
    assert (item.reply_to, item.reply) == (None, None)
    assert "replyTo" in item.malformed.error


def test_a_malformed_command_with_a_forged_channel_is_not_replied_to() -> None:
    item = set_aside(raw(replyTo=b"ts:events:session-created", data=b"hello"))
    assert (item.reply_to, item.reply) == (None, None)


# ── the partition ────────────────────────────────────────────────────────────────────────────────────────────────────


@unhurried
@for_all(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 7))
def test_a_session_is_accepted_in_its_own_partition_only(session_id: str, partition: int) -> None:
    item = read(fields_of(entry(DeleteSession(session_id), reply_to=None)), partition, 8)
    assert isinstance(item, DecodedCommand) == (partition_of(session_id, 8) == partition)


def test_the_error_says_where_the_session_belongs() -> None:
    right = partition_of("s", 8)
    wrong = (right + 1) % 8
    fields = raw(replyTo=f"ts:{wrong}:reply:client".encode())
    item = set_aside(fields, wrong, 8)
    assert item.malformed.error == f"The session belongs to partition {right}, not {wrong} - at `$.sessionId`"
    assert item.reply_to == f"ts:{wrong}:reply:client"


@pytest.mark.parametrize("partition", range(4))
def test_a_listing_may_go_to_any_partition(partition: int) -> None:
    assert isinstance(read(fields_of(entry(ListSessions(), reply_to=None)), partition, 4), DecodedCommand)


@pytest.mark.parametrize("name", [b"delete-session", b"create-session"])
def test_a_command_without_a_session_is_a_matter_of_the_rules(name: bytes) -> None:
    """A decodable command that breaks a rule is rejected, not quarantined."""
    config = {"provider": "openai", "model": "small"}
    data = msgspec.json.encode({"sessionId": "", "config": config})
    assert isinstance(read(raw(type=name, data=data)), DecodedCommand)


@settings(unhurried, max_examples=200)
@for_all(
    st.dictionaries(
        st.sampled_from([b"id", b"type", b"data", b"replyTo", b"correlationId", b"other"]),
        st.binary(max_size=20) | st.sampled_from([b"c1", b"delete-session", DATA, REPLY_TO.encode()]),
    )
)
def test_no_entry_of_a_stream_raises(fields: dict[bytes, bytes]) -> None:
    item = read(fields)
    assert item.raw.fields == fields


# ── telling payloads apart ───────────────────────────────────────────────────────────────────────────────────────────


def hash_of(command: AnyCommand, command_id: str = "c1", reply_to: str | None = REPLY_TO) -> str:
    return payload_hash(entry(command, command_id, reply_to))


def test_a_resend_from_another_client_is_the_same_payload() -> None:
    assert hash_of(DeleteSession("s")) == hash_of(DeleteSession("s"), reply_to="ts:0:reply:other")


def test_other_data_or_another_type_is_another_payload() -> None:
    entries = [CommandEntry("c1", name, data) for name in ("delete-session", "get-session") for data in (DATA, b"{}")]
    assert len({payload_hash(each) for each in entries}) == 4
