"""The wire format, for services and bridges: commands, events, replies and errors as bytes, and back.

```python
kind, data = "add-message", b'{"sessionId": "s", "message": …}'
command = wire.decode_command(kind, data)          # what a worker would read from a stream entry
result = await ts.execute(command)
```

Values also have `to_json` and `from_json`, which include the `type`. `turnstream asyncapi` describes the
format for other languages.
"""

from collections.abc import Mapping

from turnstream.codec import envelope
from turnstream.codec.errors import ERRORS, ErrorInfo, encode_error, error_info
from turnstream.codec.events import decode_event
from turnstream.codec.records import decode_replies, encode_replies, error_of
from turnstream.domain.command_specs import COMMANDS
from turnstream.domain.commands import AnyCommand
from turnstream.domain.events import EVENTS, AnyEvent
from turnstream.domain.json_input import MAX_DEPTH, deeper_than
from turnstream.ports import Reply

__all__ = [
    "COMMAND_TYPES",
    "ERRORS",
    "EVENT_TYPES",
    "MAX_COMMAND_BYTES",
    "MAX_DEPTH",
    "AnyCommand",
    "AnyEvent",
    "ErrorInfo",
    "Reply",
    "decode_command",
    "decode_event",
    "decode_replies",
    "deeper_than",
    "encode_command",
    "encode_error",
    "encode_event",
    "encode_replies",
    "error_info",
    "error_of",
]

MAX_COMMAND_BYTES = 2**20
"""The default of the setting `max_message_bytes`."""

COMMAND_TYPES: Mapping[str, type[AnyCommand]] = COMMANDS
"""The classes of the commands of producers, by wire type."""

EVENT_TYPES: Mapping[str, type[AnyEvent]] = EVENTS
"""The classes of events, by wire type."""


def encode_command(command: AnyCommand, max_bytes: int = MAX_COMMAND_BYTES) -> bytes:
    """Return a command's data as a stream entry carries it, without the type, after the checks that a worker makes.

    Args:
        command: the command.
        max_bytes: the largest size of the JSON.

    Raises:
        InvalidCommand: a worker would refuse it; `path` names the field.

    """
    return envelope.encode_command(command, max_bytes)


def decode_command(kind: str, data: bytes, max_bytes: int = MAX_COMMAND_BYTES) -> AnyCommand:
    """Return the command of a wire type. Size and depth are checked before the data is parsed.

    Args:
        kind: the wire type, such as `add-message`; those of operators are known, too.
        data: the command's data as JSON.
        max_bytes: the largest size of the JSON.

    Raises:
        InvalidCommand: too large, too deep, not JSON, an unknown type, or a field is missing or has a wrong type.

    """
    return envelope.decode_command(kind, data, max_bytes)


def encode_event(event: AnyEvent) -> bytes:
    """Return the event's envelope as JSON, as `Event.to_json` does.

    Raises:
        ValueError: the event has no `meta`; only committed events have a wire form.

    """
    return event.to_json()
