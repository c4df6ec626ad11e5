"""Commands to JSON and back; both sides of the wire refuse the same things (design §10).

The client encodes a command and decodes it again by the worker's own decoder: what comes back must be what was put in.
"""

import sys

import msgspec

from turnstream.codec.depth import deeper_than
from turnstream.codec.inspection import find_changed, find_unencodable, has_lone_surrogate
from turnstream.domain.commands import COMMANDS, OPERATIONS, AnyCommand, GetSession
from turnstream.domain.rules import check_rules
from turnstream.errors import InvalidCommand

MAX_DEPTH = 64
"""Levels of nesting that a command may have (msgspec's own recursion ends near 1,000)."""

_KNOWN = frozenset((COMMANDS | OPERATIONS).values())
_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(command) for name, command in (COMMANDS | OPERATIONS).items()}


def encode_command(command: AnyCommand, max_bytes: int) -> bytes:
    """Return a command's data as JSON.

    Args:
        command: the command; its fields may hold anything, structs do not check themselves.
        max_bytes: the largest size of the JSON.

    Raises:
        InvalidCommand: a worker would refuse it; names the field.

    """
    if type(command) not in _KNOWN:
        raise InvalidCommand("type", f"Expected a command, got {_name(command)}")
    try:
        data = _encoder.encode(command)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise find_unencodable(command, MAX_DEPTH) or InvalidCommand("$", str(error)) from error
    try:
        decoded = decode_command(command.type, data, max_bytes)
    except InvalidCommand as error:
        # JSON says null for NaN, and a field that takes no null would be told of that.
        raise find_unencodable(command, MAX_DEPTH) or error from None
    if decoded != command and (problem := find_changed(command, decoded)):
        raise problem
    check_rules(decoded)
    return data


def check_session_id(session_id: str) -> None:
    """Raise `InvalidCommand` for what cannot be the id of a session, as for a command that names it."""
    encode_command(GetSession(session_id), sys.maxsize)


def decode_command(name: str, data: bytes, max_bytes: int) -> AnyCommand:
    """Return the command of a wire type.

    Raises:
        InvalidCommand: too large, too deep, not JSON, an unknown type or a field of a wrong one.

    """
    decoder = _decoders.get(name)
    if decoder is None:
        raise InvalidCommand("type", f"Unknown command type {name[:64]!r}")
    if len(data) > max_bytes:
        raise InvalidCommand("$", f"Expected at most {max_bytes} bytes, got {len(data)}")
    if deeper_than(data, MAX_DEPTH):
        raise InvalidCommand("$", f"Nested deeper than {MAX_DEPTH} levels, or not JSON")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The parser takes half a character for the end of the input, or for one of several other things.
        reason = "a lone surrogate" if has_lone_surrogate(data) else error
        raise InvalidCommand("$", f"Not JSON: {reason}") from error


def _name(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__


def invalid(error: msgspec.ValidationError) -> InvalidCommand:
    """Split msgspec's message into what is wrong and where."""
    reason, _, path = str(error).rpartition(" - at `")
    return InvalidCommand(path.rstrip("`"), reason) if reason else InvalidCommand("$", str(error))
