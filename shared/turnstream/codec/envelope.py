"""Stream entries of commands: `id`, `type`, `data`, and optional fields (`encode_optional`)."""

import re
from collections.abc import Mapping

import msgspec

from turnstream.codec.inspection import LONE_SURROGATE
from turnstream.errors import InvalidCommand
from turnstream.ports import CommandEntry

MAX_APPLY_WITHIN_MS = 10**12
"""The longest time in which a command may have to be applied, in milliseconds: some thirty years."""

MAX_NAME_BYTES = 256
"""Bytes of every field of an entry but `data`."""


class Sender(msgspec.Struct, frozen=True):
    """Who sent a command: its id, and the channel for the reply."""

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
    if entry.wants_place:
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
    """Return who is to be told about an entry, whatever is wrong with the rest of it; `None` if it does not say."""
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
