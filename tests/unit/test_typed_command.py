"""Commands as they are typed: the fields that can be left out."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from turnstream import (
    AddMessage,
    AddMessages,
    CreateSession,
    InvalidCommand,
    SessionConfig,
    TextContent,
    UpdateMessage,
    UpdateSession,
)
from turnstream.codec.envelope import encode_command
from turnstream.domain.command_specs import COMMANDS
from turnstream.domain.events import EVENTS
from turnstream.messages import new_id
from turnstream_cli.options import COMMAND_TYPES, EVENT_TYPES, MessageRole
from turnstream_cli.typed_command import check_type, parse_command, time_in

ID = "01234567-89ab-7def-8123-456789abcdef"
TIME = datetime.fromtimestamp(0x0123456789AB / 1000, UTC)
LARGEST = 1_000_000


def parsed(name: str, fields: dict[str, Any], command_id: str = ID) -> Any:  # noqa: ANN401 - any command
    return parse_command(name, json.dumps(fields).encode(), command_id, LARGEST).command


def test_a_message_needs_no_id_time_or_array() -> None:
    command = parsed("add-message", {"sessionId": "s", "message": {"role": "user", "content": "hi"}})
    assert isinstance(command, AddMessage)
    assert (command.message.id, command.message.created_at) == (ID, TIME)
    assert command.message.content == (TextContent("hi"),)


def test_each_of_several_messages_gets_its_own_id() -> None:
    message = {"role": "user", "content": "hi"}
    command = parsed("add-messages", {"sessionId": "s", "messages": [message, {**message, "id": "mine"}, message]})
    assert isinstance(command, AddMessages)
    assert [message.id for message in command.messages] == [f"{ID}-0", "mine", f"{ID}-2"]


def test_messages_of_an_update() -> None:
    command = parsed("update-session", {"sessionId": "s", "updates": {"messages": [{"role": "user", "content": "hi"}]}})
    assert isinstance(command, UpdateSession)
    assert isinstance(command.updates.messages, tuple)
    assert command.updates.messages[0].id == f"{ID}-0"
    changed = parsed("update-message", {"sessionId": "s", "messageId": "m", "updates": {"content": "hi"}})
    assert isinstance(changed, UpdateMessage)
    assert changed.updates.content == (TextContent("hi"),)


def test_a_session_without_a_configuration() -> None:
    command = parsed("create-session", {})
    assert command == CreateSession(SessionConfig(provider="openai", model="gpt-4"))
    with pytest.raises(InvalidCommand, match="provider"):
        parsed("create-session", {"config": {"model": "gpt-4"}})


def test_given_fields_stay() -> None:
    given = {
        "id": "m",
        "role": "user",
        "content": [{"type": "text", "text": "hi"}],
        "createdAt": "2026-01-01T00:00:00Z",
    }
    command = parsed("add-message", {"sessionId": "s", "message": given}, "no-uuid")
    assert (command.message.id, command.message.created_at) == ("m", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_resend_is_the_same_payload() -> None:
    command_id = new_id()
    fields = {"sessionId": "s", "messages": [{"role": "user", "content": "hi"}] * 2}
    first, second = (encode_command(parsed("add-messages", fields, command_id), LARGEST) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("command_id", ["order-17", "01234567-89ab-4def-8123-456789abcdef", "\udcff"])
def test_an_id_without_a_time(command_id: str) -> None:
    with pytest.raises(InvalidCommand, match="not a UUIDv7") as raised:
        parsed("add-message", {"sessionId": "s", "message": {"role": "user", "content": "hi"}}, command_id)
    assert raised.value.path == "$.message.createdAt"


def test_the_time_of_a_new_id_is_now() -> None:
    before, now = datetime.now(UTC), time_in(new_id(), "$")
    assert abs(now - before).total_seconds() < 60


@pytest.mark.parametrize(
    "data",
    [b"{}", b"[]", b"{", b"[" * 100, b'{"sessionId": "s", "message": "hi"}', b'{"sessionId": "s", "message": [1]}'],
)
def test_other_json_is_refused_as_ever(data: bytes) -> None:
    with pytest.raises(InvalidCommand):
        parse_command("add-message", data, ID, LARGEST)


def test_a_type_that_is_mistyped() -> None:
    check_type("add-message")
    with pytest.raises(InvalidCommand, match="did you mean add-message") as raised:
        check_type("add-mesage")
    assert all(name in str(raised.value) for name in COMMANDS)
    with pytest.raises(InvalidCommand, match=r"'coffee'\. The types"):
        check_type("coffee")


def test_the_names_that_are_completed_are_those_of_the_library() -> None:
    assert sorted(COMMAND_TYPES) == sorted(COMMANDS)
    assert sorted(EVENT_TYPES) == sorted(EVENTS)
    assert {*MessageRole} < {"system", "user", "assistant", "tool", "function", "summary"}
