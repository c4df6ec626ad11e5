"""Events on the wire: one envelope for all, in camelCase; decoding restores the event."""

from datetime import UTC
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.given import AT, any_event, arbitrary, created, given, message, unhurried

from turnstream.codec.events import decode_event
from turnstream.domain.events import EVENTS, AnyEvent, EventMeta, MessageAdded, SessionUpdated, TokenMetricsUpdated
from turnstream.domain.patches import SessionConfigPatch, SessionPatch

META = EventMeta(
    event_id="c1:0",
    partition=3,
    generation="g",
    sequence=17,
    previous_of_type=5,
    previous_of_session=16,
    command_id="c1",
    correlation_id="request-1",
    traceparent="00-1-2-01",
)
ADDED = MessageAdded(
    session_id="s", incarnation="c0", version=2, timestamp=AT, meta=META, message=message("m1", my_key=1)
)


def wire(event: AnyEvent) -> Any:  # noqa: ANN401 - JSON
    return msgspec.json.decode(event.to_json())


def test_every_event_has_its_own_wire_type() -> None:
    assert set(EVENTS.values()) == set(get_args(AnyEvent))
    assert all(EVENTS[kind.type] is kind for kind in get_args(AnyEvent))


@pytest.mark.parametrize("kind", EVENTS.values())
@settings(unhurried, max_examples=50)
@for_all(st.data())
def test_an_event_comes_back_as_it_was(kind: type[AnyEvent], data: st.DataObject) -> None:
    event = data.draw(arbitrary(kind, meta=arbitrary(EventMeta, "position")))
    assert decode_event(event.to_json()) == event


@unhurried
@for_all(any_event)
def test_an_envelope_is_the_same_bytes_again(event: AnyEvent) -> None:
    again = decode_event(event.to_json())
    assert again is not None
    assert again.to_json() == event.to_json()


def test_the_envelope() -> None:
    assert wire(ADDED) == {
        "id": "c1:0",
        "type": "message-added",
        "sessionId": "s",
        "sessionVersion": 2,
        "incarnation": "c0",
        "partition": 3,
        "generation": "g",
        "sequence": 17,
        "previousOfType": 5,
        "previousOfSession": 16,
        "timestamp": "2026-11-01T12:00:00Z",
        "commandId": "c1",
        "correlationId": "request-1",
        "traceparent": "00-1-2-01",
        "data": {
            "message": {
                "id": "m1",
                "role": "user",
                "content": [{"type": "text", "text": "Hello"}],
                "createdAt": "2026-11-01T12:00:00Z",
                "metadata": {"my_key": 1},
            },
        },
    }


def test_absent_producer_fields_are_omitted() -> None:
    bare = replace(ADDED, meta=replace(META, correlation_id=None, traceparent=None))
    assert not wire(bare).keys() & {"correlationId", "traceparent"}


def test_a_patch_holds_cleared_fields_and_omits_unchanged_ones() -> None:
    updates = SessionPatch(config=SessionConfigPatch(temperature=None), is_active=False)
    event = SessionUpdated(session_id="s", incarnation="c0", version=2, timestamp=AT, meta=META, updates=updates)
    assert wire(event)["data"] == {"updates": {"config": {"temperature": None}, "isActive": False}}


@pytest.mark.parametrize("field", ["incarnation", "sequence", "timestamp", "data"])
def test_an_envelope_without_a_field(field: str) -> None:
    lacking = {name: value for name, value in wire(ADDED).items() if name != field}
    with pytest.raises(msgspec.ValidationError, match=field):
        decode_event(msgspec.json.encode(lacking))


@pytest.mark.parametrize("payload", [b"", b"hello", b"[]", b'{"type":"message-added"}', b"\xff"])
def test_entries_that_are_no_envelope(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_event(payload)


def test_a_type_that_a_later_version_has_added_is_passed_over() -> None:
    assert decode_event(msgspec.json.encode({**wire(ADDED), "type": "session-forked"})) is None


def test_fields_that_a_later_version_has_added_are_ignored() -> None:
    envelope = wire(ADDED)
    envelope["data"] |= {"reactions": [1]}
    assert decode_event(msgspec.json.encode({**envelope, "shard": 1})) == ADDED


def test_only_committed_events_travel() -> None:
    with pytest.raises(ValueError, match="message-added"):
        replace(ADDED, meta=None).to_json()


def test_times_come_back_in_utc() -> None:
    event = decode_event(ADDED.to_json())
    assert event is not None
    assert event.timestamp.tzinfo == UTC


# ── the constructors of the contract ──────────────────────────────────────────────────────────────────────────────────


def test_should_have_the_correct_type_and_properties() -> None:
    story = given(created())
    session = story.session
    event = story.past[0]
    assert (event.type, event.session_id, event.timestamp, event.version) == ("session-created", "s", AT, 1)
    assert wire(replace(event, meta=META))["data"] == {"session": msgspec.json.decode(msgspec.json.encode(session))}


def test_should_carry_the_metrics_under_the_names_of_the_spec() -> None:
    session = given(created()).session
    assert session is not None
    event = TokenMetricsUpdated(
        session_id="s", incarnation="c0", version=2, timestamp=AT, meta=META, metrics=session.metrics
    )
    assert wire(event)["data"]["metrics"]["maxContextWindow"] == 1_000
