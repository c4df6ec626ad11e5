"""How values show themselves: short, and without what a message says, for reprs end up in logs and error reports."""

from collections.abc import Iterator, Sized
from datetime import datetime
from enum import Enum

import msgspec
from msgspec.structs import fields

SHOWN = frozenset(
    (
        *("id", "session_id", "message_id", "command_id", "event_id", "tool_call_id", "correlation_id", "traceparent"),
        *("incarnation", "generation", "type", "role", "detail", "provider", "model", "context_strategy"),
        *("price_source", "name", "cursor", "next_cursor", "path", "problem", "reason", "error"),
    )
)
"""Fields whose text is shown; of others only its length is."""


def show(struct: msgspec.Struct) -> str:
    """Return the repr of a value: its ids, numbers, flags and times; of texts and of what holds several only the size.

    Fields with their defaults are left out.
    """
    return f"{type(struct).__name__}({', '.join(_fields(struct))})"


def _fields(struct: msgspec.Struct) -> Iterator[str]:
    for field in fields(type(struct)):
        value: object = getattr(struct, field.name)
        if value is not field.default and value is not None:
            yield f"{field.name}={_shown(field.name, value)}"


def _shown(name: str, value: object) -> str:
    if isinstance(value, Enum):
        return repr(value.value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and name in SHOWN:
        return repr(value)
    if isinstance(value, int | float | msgspec.Struct):
        return repr(value)
    return f"<{len(value)}>" if isinstance(value, Sized) else f"<{type(value).__name__}>"
