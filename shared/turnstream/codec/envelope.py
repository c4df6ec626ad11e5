"""Stream entries of commands: the fields `id`, `type`, `data`, and `replyTo`, `correlationId`, `traceparent` (design §1)."""

from collections.abc import Mapping

from turnstream.errors import InvalidCommand
from turnstream.ports import CommandEntry

MAX_NAME_BYTES = 256
"""Bytes of every field of an entry but `data`."""


def encode_entry(entry: CommandEntry) -> list[str | bytes]:
    """Return the entry's fields and values, one after the other, as XADD takes them."""
    fields: list[str | bytes] = ["id", entry.command_id, "type", entry.type, "data", entry.data]
    if entry.reply_to is not None:
        fields += ("replyTo", entry.reply_to)
    if entry.correlation_id is not None:
        fields += ("correlationId", entry.correlation_id)
    if entry.traceparent is not None:
        fields += ("traceparent", entry.traceparent)
    return fields


def decode_entry(fields: Mapping[bytes, bytes]) -> CommandEntry:
    """Return the entry that these fields hold; unknown ones are ignored.

    Raises:
        InvalidCommand: a field is missing, too long or not text.

    """
    return CommandEntry(
        command_id=_required(fields, b"id"),
        type=_required(fields, b"type"),
        data=fields.get(b"data") or b"{}",
        reply_to=_text(fields, b"replyTo"),
        correlation_id=_text(fields, b"correlationId"),
        traceparent=_text(fields, b"traceparent"),
    )


def _required(fields: Mapping[bytes, bytes], name: bytes) -> str:
    value = _text(fields, name)
    if not value:
        raise InvalidCommand(name.decode(), "The stream entry has no such field")
    return value


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if len(value) > MAX_NAME_BYTES:
        raise InvalidCommand(name.decode(), f"Expected at most {MAX_NAME_BYTES} bytes, got {len(value)}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidCommand(name.decode(), "Expected UTF-8 text") from error
