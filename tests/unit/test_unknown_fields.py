"""Fields of typed JSON that a command does not have."""

from typing import Any

import msgspec
import pytest

from turnstream.domain.command_specs import COMMANDS
from turnstream_cli.unknown_fields import UnknownField, find_unknown_fields

MESSAGE = {"id": "m", "role": "user", "content": [{"type": "text", "text": "hi"}], "createdAt": "2026-01-01T00:00:00Z"}


def unknown(name: str, fields: dict[str, Any]) -> list[UnknownField]:
    return list(find_unknown_fields(COMMANDS[name], fields))


@pytest.mark.parametrize(
    ("name", "fields", "path", "suggestion"),
    [
        ("create-session", {"config": {"temprature": 2}}, "$.config.temprature", "temperature"),
        ("create-session", {"session_id": "s"}, "$.session_id", "sessionId"),
        ("create-session", {"coffee": 1}, "$.coffee", None),
        ("add-message", {"message": {**MESSAGE, "rol": "user"}}, "$.message.rol", "role"),
        (
            "add-messages",
            {"messages": [MESSAGE, {**MESSAGE, "toolcallid": "x"}]},
            "$.messages[1].toolcallid",
            "toolCallId",
        ),
        ("update-session", {"updates": {"config": {"modle": "x"}}}, "$.updates.config.modle", "model"),
        (
            "update-message",
            {"updates": {"content": [{"type": "image", "url": "x", "alttext": "y"}]}},
            "$.updates.content[0].alttext",
            "alt_text",
        ),
    ],
)
def test_an_unknown_field_is_found(name: str, fields: dict[str, Any], path: str, suggestion: str | None) -> None:
    assert unknown(name, fields) == [UnknownField(path, suggestion)]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("add-message", {"sessionId": "s", "message": {**MESSAGE, "metadata": {"any": {"thing": 1}}}}),
        ("create-session", {"config": {"providerOptions": {"any": 1}, "tools": ["a"]}, "metadata": {"any": 1}}),
        ("update-session", {"updates": {"config": {"systemPrompt": None}, "metadata": None}}),
        ("add-message", {"message": "hi"}),
        ("add-messages", {"messages": {"0": MESSAGE}}),
    ],
)
def test_known_fields_and_free_ones_are_not(name: str, fields: dict[str, Any]) -> None:
    assert unknown(name, fields) == []


def test_every_command_can_be_looked_through() -> None:
    for name, command in COMMANDS.items():
        known = [field.encode_name for field in msgspec.structs.fields(command)]
        assert unknown(name, dict.fromkeys(known)) == []
