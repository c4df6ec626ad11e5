"""Commands as they are typed: JSON in which ids, times and arrays can be left out.

The values that replace them follow from the command's id, so a resend under the same id has the same payload.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import msgspec

from turnstream import InvalidCommand
from turnstream.commands import AddMessage, AddMessages, Command, CreateSession, UpdateMessage, UpdateSession
from turnstream.wire import COMMAND_TYPES, MAX_DEPTH, decode_command, deeper_than
from turnstream_cli.options import DEFAULT_MODEL, DEFAULT_PROVIDER
from turnstream_cli.unknown_fields import UnknownField, closest_name, find_unknown_fields

BITS_AFTER_TIME: Final = 80
"""Bits of a UUIDv7 that follow its time in milliseconds."""

VERSION_WITH_TIME: Final = 7

Fields = dict[str, Any]


class TypedCommand(NamedTuple):
    """A command that was typed, and its fields that are ignored."""

    command: Command[Any]
    unknown: tuple[UnknownField, ...] = ()


def check_type(name: str) -> None:
    """Check the wire type of a command.

    Raises:
        InvalidCommand: there is no such type; suggests one and lists all.

    """
    if name in COMMAND_TYPES:
        return
    closest = closest_name(name, list(COMMAND_TYPES))
    suggestion = f", did you mean {closest}?" if closest else "."
    types = ", ".join(COMMAND_TYPES)
    raise InvalidCommand("type", f"Unknown command type {name[:64]!r}{suggestion} The types are {types}")


def parse_command(name: str, data: bytes, command_id: str, max_bytes: int) -> TypedCommand:
    """Return the command that was typed.

    Args:
        name: the wire type, a known one.
        data: the JSON of the fields.
        command_id: the id of the command; a message without an id or a time gets them from it.
        max_bytes: the largest size of the JSON.

    Raises:
        InvalidCommand: it is not JSON, or not this command.

    """
    fields = _decode_object(data)
    if fields is None:
        return TypedCommand(decode_command(name, data, max_bytes))
    unknown = tuple(find_unknown_fields(COMMAND_TYPES[name], fields))
    if complete := _COMPLETIONS.get(name):
        complete(fields, command_id)
        data = msgspec.json.encode(fields)
    return TypedCommand(decode_command(name, data, max_bytes), unknown)


def time_in(command_id: str, path: str) -> datetime:
    """Return the time at which a command id was made.

    Raises:
        InvalidCommand: the id is not a UUIDv7; names the field of this path, which needs a time then.

    """
    try:
        number = UUID(command_id)
    except ValueError:
        number = None
    if number is None or number.version != VERSION_WITH_TIME:
        reason = f"A message without a time gets that of the command's id, but {command_id!r} is not a UUIDv7"
        raise InvalidCommand(path, reason)
    return datetime.fromtimestamp((number.int >> BITS_AFTER_TIME) / 1000, UTC)


def _decode_object(data: bytes) -> Fields | None:
    """Return a JSON object; `None` for other bytes."""
    try:
        value: object = None if deeper_than(data, MAX_DEPTH) else msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return cast("Fields", value) if isinstance(value, dict) else None


def _object(value: object) -> Fields:
    """Return a JSON object; an empty one for other values."""
    return cast("Fields", value) if isinstance(value, dict) else {}


def _complete_session(fields: Fields, _: str) -> None:
    fields.setdefault("config", {"provider": DEFAULT_PROVIDER, "model": DEFAULT_MODEL})


def _complete_message(fields: Fields, command_id: str) -> None:
    if message := _object(fields.get("message")):
        _complete_new(message, command_id, command_id, "$.message")


def _complete_messages(fields: Fields, command_id: str, path: str = "$.messages") -> None:
    messages: list[Any] = fields["messages"] if isinstance(fields.get("messages"), list) else []
    for index, message in enumerate(messages):
        if isinstance(message, dict):
            _complete_new(cast("Fields", message), f"{command_id}-{index}", command_id, f"{path}[{index}]")


def _complete_patched_messages(fields: Fields, command_id: str) -> None:
    _complete_messages(_object(fields.get("updates")), command_id, "$.updates.messages")


def _complete_patched_content(fields: Fields, _: str) -> None:
    _complete_content(_object(fields.get("updates")))


def _complete_new(message: Fields, message_id: str, command_id: str, path: str) -> None:
    message.setdefault("id", message_id)
    if "createdAt" not in message:
        message["createdAt"] = time_in(command_id, f"{path}.createdAt")
    _complete_content(message)


def _complete_content(message: Fields) -> None:
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = [{"type": "text", "text": content}]


_COMPLETIONS: Final[Mapping[str, Callable[[Fields, str], None]]] = {
    CreateSession.type: _complete_session,
    AddMessage.type: _complete_message,
    AddMessages.type: _complete_messages,
    UpdateMessage.type: _complete_patched_content,
    UpdateSession.type: _complete_patched_messages,
}
"""The fields that can be left out of a command, by wire type."""
