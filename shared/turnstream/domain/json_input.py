"""The limits of JSON from other programs, which are checked before it is parsed, and its errors."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard, TypeVar

import msgspec

from turnstream.errors import InvalidCommand

Value = TypeVar("Value")

MAX_DEPTH = 64
"""Levels of nesting that a value may have (msgspec's own recursion ends near 1,000)."""

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SQUARE = bytes.maketrans(b"{}", b"[]")
_HEX = rb"[0-9a-fA-F]{2}"
_ESCAPES = re.compile(rb"\\u[dD][89abAB]%b\\u[dD][c-fC-F]%b|\\u[dD]([89a-fA-F])%b|\\." % (_HEX, _HEX, _HEX), re.DOTALL)
"""Escapes in JSON: of a character by its two halves, of one half, and any other."""


def decode_json(data: bytes, decode: Callable[[bytes], Value], max_bytes: int | None) -> Value:
    """Return what a decoder makes of JSON that is neither too large nor too deep.

    Raises:
        InvalidCommand: too large, too deep, not JSON, or a field of a wrong type.

    """
    if max_bytes is not None and len(data) > max_bytes:
        raise InvalidCommand("$", f"Expected at most {max_bytes} bytes, got {len(data)}")
    if deeper_than(data, MAX_DEPTH):
        raise InvalidCommand("$", f"Nested deeper than {MAX_DEPTH} levels, or not JSON")
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The parser takes half a character for the end of the input, or for one of several other things.
        reason = "a lone surrogate" if _has_lone_surrogate(data) else error
        raise InvalidCommand("$", f"Not JSON: {reason}") from error


def convert(value: object, kind: type[Value]) -> Value:
    """Return a value of this type, made of the lists, dicts and scalars that JSON is decoded to.

    Raises:
        InvalidCommand: too deep, or a field of a wrong type.

    """
    if _nests_deeper_than(value, MAX_DEPTH):
        raise InvalidCommand("$", f"Nested deeper than {MAX_DEPTH} levels")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from error


def deeper_than(data: bytes, limit: int) -> bool:
    """Return whether JSON has more than `limit` levels of arrays and objects; of other bytes, whether it may have.

    It is asked before parsing: a parser recurses, and hostile input must not choose how far.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    brackets = _STRINGS.sub(b"", data).translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def invalid(error: msgspec.ValidationError) -> InvalidCommand:
    """Split msgspec's message into what is wrong and at which field."""
    reason, _, path = str(error).rpartition(" - at `")
    return InvalidCommand(path.rstrip("`"), reason) if reason else InvalidCommand("$", str(error))


def _nests_deeper_than(value: object, limit: int) -> bool:
    level = [value] if _is_container(value) else []
    for _ in range(limit):
        level = [child for container in level for child in _values(container) if _is_container(child)]
    return bool(level)


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a value is what a JSON object is decoded to."""
    return isinstance(value, Mapping)


def _values(container: Any) -> Iterable[object]:  # noqa: ANN401 - decoded JSON
    return container.values() if is_object(container) else container


def _is_container(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _has_lone_surrogate(data: bytes) -> bool:
    """Return whether JSON escapes half a character, which no UTF-8 text can hold."""
    return any(escape[1] for escape in _ESCAPES.finditer(data))
