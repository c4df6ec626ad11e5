"""The schemas of all values on the wire, made from the structs that encode and decode them."""

import re
from collections.abc import Mapping
from functools import cache
from inspect import getdoc
from itertools import chain
from typing import Any, TypeAlias

import msgspec

from turnstream.domain.command_specs import COMMAND_SPECS, COMMANDS, OPERATIONS
from turnstream.domain.commands import CreateSession
from turnstream.domain.event_envelope import EventEnvelope
from turnstream.domain.events import DATA_TYPES, EVENTS
from turnstream.ports import Rejection, Reply, SessionPosition

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | float | bool | None"

_ASIDE = re.compile(r" \((?:design §|docs/contract\.md)[^)]*\)")
_JSON = {"None": "null", "True": "true", "False": "false"}

REFERENCE = "#/components/schemas/"

CREATION = "Create a session. A system prompt becomes its first message."

OUTPUTS: Mapping[str, tuple[Any, ...]] = {
    kind.type: spec.output.types for kind, spec in COMMAND_SPECS.items() if spec.output
}
"""The field `output` of a reply, by the type of the command; other commands have none."""

FIELDS: Mapping[type, Mapping[str, str]] = {
    Reply: {
        "commandId": "The id of the command that it is about.",
        "status": "ok: applied, or answered; rejected: refused, and nothing changed; parked: it waits with its "
        "session, which needs an operator, and is applied or discarded later.",
        "version": "The session's version behind the command; absent, as 0, where there is no session.",
        "error": "Why it was rejected; absent otherwise.",
        "output": "What the command gave back besides the version; see its operation.",
        "payloadHash": "Tells which of several commands under one id is meant: 16 hexadecimal digits, the BLAKE2b "
        "digest of 8 bytes over the bytes of `data`, followed by those of `type`. Absent where it is not known, and "
        "in answers to queries.",
        "place": "Where the command stands in the history of its session; there if its entry had a field `place` and "
        "it was applied just now, absent where a recorded outcome is answered again.",
    },
    SessionPosition: {
        "generation": "The history that the numbers belong to, as in an event.",
        "previous": "The sequence of the session's last event before the command; 0: there was none.",
        "sequence": "The sequence of the command's last event.",
        "updatedMs": "The session's `updatedAt` behind the command, in milliseconds since 1970.",
    },
    Rejection: {
        "code": "Which error it is. Take one that you do not know for a rejection without further meaning.",
        "message": "What happened, for people.",
        "fields": "What the error is about, by names that depend on the code, in snake_case.",
    },
}
"""The meaning of their fields; those of the envelope have descriptions."""


@cache
def components() -> dict[str, Any]:
    """Return all schemas by name."""
    outputs = chain.from_iterable(OUTPUTS.values())
    kinds = (*COMMANDS.values(), *OPERATIONS.values(), EventEnvelope, *DATA_TYPES.values(), Reply, *outputs)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=REFERENCE + "{name}")
    for kind in (*COMMANDS.values(), *OPERATIONS.values()):
        schemas[kind.__name__]["title"] = kind.type
    for event_type, data in DATA_TYPES.items():
        schemas[data.__name__]["description"] = words_of(EVENTS[event_type])
    _require_session_id(schemas[CreateSession.__name__])
    for kind, fields in FIELDS.items():
        for name, text in fields.items():
            schemas[kind.__name__]["properties"][name]["description"] = text
    return {name: _for_others(schema) for name, schema in sorted(schemas.items())}


def reference(*kinds: Any) -> dict[str, Any]:  # noqa: ANN401 - types
    """Return the schema of a value of any of these types, which refers to the components."""
    schemas, _ = msgspec.json.schema_components(kinds, ref_template=REFERENCE + "{name}")
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def event_payload(event_type: str) -> dict[str, Any]:
    """Return the schema of an event's envelope with the data of its type."""
    own = {"type": {"const": event_type}, "data": reference(DATA_TYPES[event_type])}
    return {"allOf": [reference(EventEnvelope), {"type": "object", "properties": own}]}


def words_of(kind: type) -> str:
    """Return what a class says about itself, in words that do not speak of Python."""
    # In Python the client makes the id of a session that has none; on the wire it must be there.
    return CREATION if kind is CreateSession else _plain(getdoc(kind) or "")


def _require_session_id(schema: dict[str, Any]) -> None:
    """Say that a command which creates a session must name it."""
    schema["required"].append("sessionId")
    schema["properties"]["sessionId"] = {"type": "string"}
    schema["description"] = CREATION


def _plain(text: str) -> str:
    """Put names of Python into those of the wire, and leave out references to the design."""
    return re.sub(r"`(\w+)`", lambda match: f"`{_on_the_wire(match[1])}`", " ".join(_ASIDE.sub("", text).split()))


def _on_the_wire(name: str) -> str:
    if name in _JSON:
        return _JSON[name]
    if name.isupper():
        return name.lower()
    if name[0].isupper():
        return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _for_others(value: JsonValue) -> JsonValue:
    """Leave out what only the library can follow; AsyncAPI's `discriminator` is another one than this."""
    match value:
        case dict():
            return {
                name: _plain(child) if name == "description" and isinstance(child, str) else _for_others(child)
                for name, child in value.items()
                if name != "discriminator" and not (name == "required" and not child)
            }
        case list():
            # Versions of msgspec place null first or last in `anyOf`; the document is the same with all of them.
            return sorted((_for_others(child) for child in value), key=lambda child: child == {"type": "null"})
        case _:
            return value
