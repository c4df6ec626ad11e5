"""The wire form of values: `to_dict`, `to_json`, `from_dict`, `from_json`; limits hold before anything is parsed."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from tests.unit.given import AT, any_command, any_event, arbitrary, message, unhurried
from tests.unit.test_codec_events import ADDED

from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.domain.commands import AddMessage, Command, DeleteSession, GetSession, RedriveParked, UpdateTokenMetrics
from turnstream.domain.content import ImageContent, TextContent, ToolCallContent, ToolResultContent
from turnstream.domain.events import Event, MessageAdded, SessionDeleted
from turnstream.domain.json_input import MAX_DEPTH
from turnstream.domain.models import ChatMessage, ChatMessageRole, Session, SessionConfig, SessionInfo, SessionPage
from turnstream.domain.patches import ChatMessagePatch, SessionPatch
from turnstream.domain.position import LogPosition, Position
from turnstream.domain.wire_form import WireValue
from turnstream.errors import InvalidCommand

KINDS = [
    *(ChatMessage, Session, SessionConfig, SessionInfo, SessionPage, ChatMessagePatch, SessionPatch),
    *(TextContent, ImageContent, ToolCallContent, ToolResultContent),
]
RESYNC = ResyncRequired(
    partition=1,
    reason="failover",
    lost=3,
    seen=LogPosition("g1", 7),
    resumed=LogPosition("g2", 4),
    position=Position((None, LogPosition("g2", 4))),
)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"deeper": value}
    return value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(unhurried, max_examples=30)
@for_all(st.data())
def test_a_value_comes_back_from_its_wire_form(kind: type[WireValue], data: st.DataObject) -> None:
    value = data.draw(arbitrary(kind))
    assert kind.from_dict(value.to_dict()) == value
    assert kind.from_json(value.to_json()) == kind.from_json(value.to_json().decode()) == value


@unhurried
@for_all(any_event)
def test_an_event_comes_back_by_its_type(event: Event) -> None:
    assert event.to_dict()["type"] == event.type
    for kind in (Event, type(event)):
        assert kind.from_dict(event.to_dict()) == kind.from_json(event.to_json()) == event


@unhurried
@for_all(any_command)
def test_a_command_comes_back_by_its_type(command: Command[Any]) -> None:
    assert command.to_dict()["type"] == command.type
    for kind in (Command, type(command)):
        assert kind.from_dict(command.to_dict()) == kind.from_json(command.to_json()) == command


def test_a_dict_is_the_json_and_can_be_made_by_iterating() -> None:
    for value in (ADDED.message, ADDED, AddMessage("s", message("m1")), TextContent("Hello"), RESYNC):
        assert value.to_dict() == json.loads(value.to_json()) == dict(value)


def test_absent_fields_are_left_out() -> None:
    text = TextContent("Hello")
    plain = ChatMessage(id="m", role=ChatMessageRole.USER, content=(text,), created_at=AT)
    assert plain.to_dict() == {
        "id": "m",
        "role": "user",
        "content": [{"type": "text", "text": "Hello"}],
        "createdAt": "2026-11-01T12:00:00Z",
    }
    assert SessionPatch(is_active=False).to_dict() == {"isActive": False}


def test_an_event_has_the_form_of_its_envelope() -> None:
    assert ADDED.to_dict().keys() >= {"id", "type", "sessionId", "sessionVersion", "sequence", "timestamp", "data"}
    assert ADDED.to_dict()["data"] == {"message": ADDED.message.to_dict()}


def test_an_event_that_was_not_committed_has_none() -> None:
    with pytest.raises(ValueError, match="message-added"):
        msgspec.structs.replace(ADDED, meta=None).to_dict()


def test_a_notice_of_lost_events_has_a_type_and_its_position_as_text() -> None:
    assert RESYNC.to_dict()["type"] == "resync-required"
    assert RESYNC.to_dict()["position"] == str(RESYNC.position)
    assert ResyncRequired.from_json(RESYNC.to_json()) == RESYNC
    with pytest.raises(InvalidCommand, match="position"):
        ResyncRequired.from_dict({**RESYNC.to_dict(), "position": "here"})


@pytest.mark.parametrize(
    ("kind", "data", "path"),
    [
        (ChatMessage, {"id": "m"}, "$"),
        (ChatMessage, {**message("m1").to_dict(), "content": [{"type": "text", "text": 1}]}, "$.content[0].text"),
        (ChatMessage, {**message("m1").to_dict(), "createdAt": "2026-11-01T12:00:00"}, "$.createdAt"),
        (TextContent, {"type": "image", "url": "https://example.com"}, "$.type"),
        (Event, {**ADDED.to_dict(), "type": "message-eaten"}, "$.type"),
        (Event, {**ADDED.to_dict(), "type": ["message-added"]}, "$.type"),
        (Event, {"id": "c1:0"}, "$"),
        (SessionDeleted, ADDED.to_dict(), "$.type"),
        (MessageAdded, {**ADDED.to_dict(), "data": {"message": {"id": 5}}}, "$.data.message.id"),
        (Command, {"type": "eat-message", "sessionId": "s"}, "$.type"),
        (Command, RedriveParked(session_id="s").to_dict(), "$.type"),
        (DeleteSession, GetSession("s").to_dict(), "$.type"),
        (UpdateTokenMetrics, {"type": "update-token-metrics", "sessionId": "s", "promptTokens": "7"}, "$.promptTokens"),
    ],
)
def test_the_error_names_the_field(kind: type[WireValue], data: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidCommand) as raised:
        kind.from_dict(data)
    assert raised.value.path == path


@pytest.mark.parametrize("kind", [ChatMessage, Event, Command, ResyncRequired])
@pytest.mark.parametrize("data", [b"[]", b"5", b"null", b"", b"{", b'{"id": "\\ud800"}', b"\xff", "\ud800"])
def test_what_is_no_object_is_refused(kind: type[WireValue], data: bytes | str) -> None:
    with pytest.raises(InvalidCommand):
        kind.from_json(data)


def test_size_is_limited_before_parsing() -> None:
    data = message("m1").to_json()
    assert ChatMessage.from_json(data, max_bytes=len(data)) == message("m1")
    with pytest.raises(InvalidCommand, match=f"at most {len(data) - 1} bytes"):
        ChatMessage.from_json(data, max_bytes=len(data) - 1)


def test_depth_is_limited_before_parsing() -> None:
    with pytest.raises(InvalidCommand, match="deeper"):
        ChatMessage.from_json(b'{"metadata":' * 100_000)


@pytest.mark.parametrize(("levels", "fits"), [(MAX_DEPTH - 1, True), (MAX_DEPTH, False), (900, False)])
def test_dicts_have_the_same_limit_of_depth_as_json(levels: int, *, fits: bool) -> None:
    data = {**message("m1").to_dict(), "metadata": nested(levels)}
    if fits:
        assert ChatMessage.from_dict(data).metadata == data["metadata"]
        assert ChatMessage.from_json(json.dumps(data)).metadata == data["metadata"]
        return
    with pytest.raises(InvalidCommand, match="deeper"):
        ChatMessage.from_dict(data)
    with pytest.raises(InvalidCommand, match="deeper"):
        ChatMessage.from_json(json.dumps(data))


def test_operators_commands_are_known_by_their_class_only() -> None:
    redrive = RedriveParked(session_id="s", limit=3)
    assert RedriveParked.from_dict(redrive.to_dict()) == redrive


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ((), ""),
        ((TextContent("Hello"),), "Hello"),
        ((TextContent("Hel"), ImageContent(url="https://example.com/i.png"), TextContent("lo")), "Hello"),
        ((ToolResultContent("call-1", "42"),), ""),
    ],
)
def test_the_text_of_a_message_is_its_text_parts(content: Any, text: str) -> None:  # noqa: ANN401 - parts
    assert ChatMessage(id="m", role=ChatMessageRole.USER, content=content, created_at=AT).text == text
