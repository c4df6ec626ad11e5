"""Commands and their stream entries: JSON and back, and the fields of an entry (design §1, §10).

An entry has `id`, `type`, `data` and optional fields (`encode_optional`). The client encodes a command and decodes it
again with the decoder of the worker: the result must equal the input, so both sides refuse the same commands.
"""

import re
import sys
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from turnstream.codec.inspection import LONE_SURROGATE, find_changed, find_unencodable
from turnstream.domain.command_specs import COMMANDS, OPERATIONS, check_rules
from turnstream.domain.commands import AnyCommand, GetSession
from turnstream.domain.json_input import MAX_DEPTH, decode_json
from turnstream.errors import InvalidCommand
from turnstream.ports import CommandEntry
from turnstream.ports.values import LAST_MS

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
        # JSON writes null for NaN, and the error would speak of a null.
        raise find_unencodable(command, MAX_DEPTH) or error from None
    if decoded != command and (problem := find_changed(command, decoded)):
        raise problem
    check_rules(decoded)
    return data


def check_session_id(session_id: str) -> None:
    """Raise `InvalidCommand` for an invalid session id, as for a command that names it."""
    encode_command(GetSession(session_id), sys.maxsize)


def decode_command(name: str, data: bytes, max_bytes: int) -> AnyCommand:
    """Return the command of a wire type.

    Raises:
        InvalidCommand: too large, too deep, not JSON, an unknown type or a field of a wrong one.

    """
    decoder = _decoders.get(name)
    if decoder is None:
        raise InvalidCommand("type", f"Unknown command type {name[:64]!r}")
    return decode_json(data, decoder.decode, max_bytes)


def _name(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__


MAX_APPLY_WITHIN_MS = 10**12
"""The longest time in which a command may have to be applied, in milliseconds: some thirty years."""

MAX_NAME_BYTES = 256
"""Bytes of every field of an entry but `data`."""


class Sender(msgspec.Struct, frozen=True):
    """The sender of a command: the id of the command, and the channel for the reply."""

    command_id: str
    reply_to: str


def encode_entry(entry: CommandEntry) -> list[str | bytes]:
    """Return the entry's fields and values, one after the other, as XADD takes them."""
    return ["id", entry.command_id, "type", entry.type, "data", entry.data, *encode_optional(entry)]


def encode_optional(entry: CommandEntry) -> list[str | bytes]:
    """Return those of the fields that an entry need not have, and their values."""
    fields: list[str | bytes] = []
    if entry.reply_to is not None:
        fields += ("replyTo", entry.reply_to)
    if entry.correlation_id is not None:
        fields += ("correlationId", entry.correlation_id)
    if entry.traceparent is not None:
        fields += ("traceparent", entry.traceparent)
    if entry.wants_position:
        fields += ("place", "1")
    if entry.apply_within_ms is not None:
        fields += ("applyWithin", str(entry.apply_within_ms))
    return fields


def check_entry(entry: CommandEntry) -> CommandEntry:
    """Return an entry that a worker can read.

    Raises:
        InvalidCommand: a field is empty, too long or not text.

    """
    names = {"id": entry.command_id, "correlationId": entry.correlation_id, "traceparent": entry.traceparent}
    for name, value in names.items():
        if value is not None:
            _check_text(name, value)
    return entry


def _check_text(name: str, value: object) -> None:
    try:
        size = len(value.encode()) if isinstance(value, str) else 0
    except UnicodeEncodeError as error:
        raise InvalidCommand(name, LONE_SURROGATE) from error
    if not 0 < size <= MAX_NAME_BYTES:
        raise InvalidCommand(name, f"Expected text of 1 to {MAX_NAME_BYTES} bytes")


def decode_command_id(fields: Mapping[bytes, bytes]) -> str | None:
    """Return the command id of an entry, whatever is wrong with the rest of it; `None` if it cannot be read."""
    try:
        return _required(b"id", fields.get(b"id"))
    except InvalidCommand:
        return None


def decode_sender(fields: Mapping[bytes, bytes]) -> Sender | None:
    """Return the sender of an entry, even if the rest of it is malformed; `None` if it names none."""
    try:
        sender = Sender(_required(b"id", fields.get(b"id")), _required(b"replyTo", fields.get(b"replyTo")))
    except InvalidCommand:
        return None
    return sender


def decode_entry(fields: Mapping[bytes, bytes]) -> CommandEntry:
    """Return the entry that these fields hold; unknown ones are ignored.

    Raises:
        InvalidCommand: a field is missing, too long or not text.

    """
    get = fields.get
    return CommandEntry(
        _required(b"id", get(b"id")),
        _required(b"type", get(b"type")),
        get(b"data") or b"{}",
        _text(b"replyTo", get(b"replyTo")),
        _text(b"correlationId", get(b"correlationId")),
        _text(b"traceparent", get(b"traceparent")),
        b"place" in fields,
        _milliseconds(get(b"applyWithin")) if b"applyWithin" in fields else None,
    )


def _milliseconds(value: bytes | None) -> int:
    if value is None or not re.fullmatch(rb"[0-9]{1,13}", value) or int(value) > MAX_APPLY_WITHIN_MS:
        raise InvalidCommand("applyWithin", f"Expected a whole number of milliseconds, at most {MAX_APPLY_WITHIN_MS}")
    return int(value)


def _required(name: bytes, value: bytes | None) -> str:
    text = _text(name, value)
    if not text:
        raise InvalidCommand(name.decode(), "The stream entry has no such field")
    return text


def _text(name: bytes, value: bytes | None) -> str | None:
    if value is None:
        return None
    if len(value) > MAX_NAME_BYTES:
        raise InvalidCommand(name.decode(), f"Expected at most {MAX_NAME_BYTES} bytes, got {len(value)}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidCommand(name.decode(), "Expected UTF-8 text") from error


# A batch asks for the time of the same few entries again and again.
@lru_cache(8)
def entry_time(entry_id: str) -> int:
    """Return the time of a stream entry in milliseconds since 1970; one that no date can have is the last date's."""
    return min(int(entry_id.partition("-")[0]), LAST_MS)
