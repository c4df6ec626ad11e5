"""The messages of the document: every command, every event, and replies, with their examples."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tools.asyncapi.recording import recording
from tools.asyncapi.replies import reply_examples
from tools.asyncapi.schemas import event_payload, reference, words_of
from turnstream.codec.envelope import MAX_NAME_BYTES, encode_entry
from turnstream.domain.command_specs import COMMANDS, OPERATIONS
from turnstream.domain.commands import AnyCommand
from turnstream.domain.events import EVENTS, AnyEvent
from turnstream.ports import CommandEntry, Reply

REPLIES = "replies"
PAYLOAD_FIELD = "data"
"""The field of a stream entry that holds the command itself; the others are the message's headers."""

HEADERS: Mapping[str, str] = {
    "id": "The id of the command, chosen by its producer. The same id again is the same command again.",
    "type": "Which command it is.",
    "replyTo": "The channel for the reply: one of the same partition. Without it nobody is told.",
    "correlationId": "Any text of the producer's own; it comes back in the events that the command causes.",
    "traceparent": "A W3C trace context; it comes back in the events as well.",
    "place": "Whatever it holds: the reply is to say where the command's last event stands.",
    "applyWithin": "A whole number of milliseconds. When so many have passed since the entry was appended, by the "
    "server's clock, the command is not applied any more, and rejected as `command-expired`. Not for queries.",
}
"""The meaning of the fields of a stream entry."""

_entry = encode_entry(CommandEntry("", "", b"", "", "", "", wants_position=True, apply_within_ms=0))
_required = encode_entry(CommandEntry("", "", b""))

Json = dict[str, Any]


def name_of(wire_type: str) -> str:
    """Return the name of a message, which may be used in code: `add-message` becomes `addMessage`."""
    head, *rest = wire_type.split("-")
    return head + "".join(word.capitalize() for word in rest)


def messages() -> Json:
    """Return all messages by name."""
    commands = {name_of(name): _command(kind) for name, kind in (COMMANDS | OPERATIONS).items()}
    events = {name_of(name): _event(kind) for name, kind in EVENTS.items()}
    return {**commands, **events, REPLIES: _replies()}


def _command(kind: type[AnyCommand]) -> Json:
    examples = [
        {"name": step.name, "headers": _headers(fields), "payload": msgspec.json.decode(fields[PAYLOAD_FIELD.encode()])}
        for step, fields in recording().entries
        if step.command.type == kind.type
    ]
    return {
        "name": kind.type,
        "title": kind.type,
        "summary": words_of(kind),
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/id"},
        "headers": _header_schema(kind.type),
        "payload": reference(kind),
        "examples": examples,
    }


def _header_schema(command_type: str) -> Json:
    names = [name for name in _names(_entry) if name != PAYLOAD_FIELD]
    properties: dict[str, Json] = {
        name: {"type": "string", "minLength": 1, "description": f"{HEADERS[name]} At most {MAX_NAME_BYTES} bytes."}
        for name in names
    }
    properties["type"] = {"const": command_type, "description": HEADERS["type"]}
    required = [name for name in _names(_required) if name != PAYLOAD_FIELD]
    return {"type": "object", "required": required, "properties": properties}


def _names(words: Iterable[str | bytes]) -> list[str]:
    return [str(word) for word in list(words)[::2]]


def _headers(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items() if name != PAYLOAD_FIELD.encode()}


def _event(kind: type[AnyEvent]) -> Json:
    recorded = [payload for event, payload in recording().events if type(event) is kind]
    return {
        "name": kind.type,
        "title": kind.type,
        "summary": words_of(kind),
        "contentType": "application/json",
        "correlationId": {"location": "$message.payload#/commandId"},
        "payload": event_payload(kind.type),
        "examples": [
            {"name": f"{kind.type} {number}", "payload": msgspec.json.decode(payload)}
            for number, payload in enumerate(recorded, start=1)
        ],
    }


def _replies() -> Json:
    return {
        "name": REPLIES,
        "title": REPLIES,
        "summary": "What became of one or several commands of a client.",
        "contentType": "application/json",
        "payload": {"type": "array", "items": reference(Reply), "minItems": 1},
        "examples": [
            {"name": example.name, "summary": example.tells, "payload": msgspec.json.decode(example.payload)}
            for example in reply_examples()
        ],
    }
