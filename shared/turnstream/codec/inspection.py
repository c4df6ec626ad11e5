"""The search for the field of a command that JSON cannot hold: slow, and only done after an error."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import msgspec
from msgspec.structs import fields

from turnstream.errors import InvalidCommand

LONE_SURROGATE = "Expected Unicode text, got a lone surrogate"

MAX_PATH = 120
"""Characters of a path that an error shows."""


def find_unencodable(command: msgspec.Struct, max_depth: int) -> InvalidCommand | None:
    """Return the first field that JSON has no way to say, or that is nested too deep; `None` if there is none."""
    for path, value, depth in _walk("$", command, 1):
        if depth > max_depth and _is_container(value):
            return _invalid(path, f"Nested deeper than {max_depth} levels")
        reason = _reason(value)
        if reason:
            return _invalid(path, reason)
    return None


def find_changed(command: msgspec.Struct, decoded: msgspec.Struct) -> InvalidCommand | None:
    """Return the first field that comes back from JSON as something else; `None` if only lists became tuples."""
    return _difference("$", command, decoded)


def _difference(path: str, value: Any, decoded: Any) -> InvalidCommand | None:  # noqa: ANN401 - free-form values
    is_struct = isinstance(decoded, msgspec.Struct)
    if (is_struct or isinstance(value, msgspec.Struct)) and type(value) is not type(decoded):
        wanted = _kind(decoded) if is_struct else "JSON"
        return _invalid(path, f"Expected {wanted}, got {_kind(value)}")
    children, others = dict(_children(value)), dict(_children(decoded))
    if not _is_container(decoded) or not _is_container(value) or children.keys() != others.keys():
        return None if value == decoded else _invalid(path, _reason(value) or f"Expected JSON, got {_kind(value)}")
    found = (_difference(f"{path}{name}", child, others[name]) for name, child in children.items())
    return next((problem for problem in found if problem), None)


def _walk(path: str, value: object, depth: int) -> Iterator[tuple[str, object, int]]:
    """Yield every value with its path and level, depth first; the caller stops before it gets too deep."""
    yield path, value, depth
    for name, child in _children(value):
        yield from _walk(f"{path}{name}", child, depth + 1)


def _children(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - a free-form value
    """Yield what a container holds, under the part of the path that leads to it."""
    if isinstance(value, msgspec.Struct):
        for field in fields(value):
            child = getattr(value, field.name)
            if child is not msgspec.UNSET:
                yield f".{field.encode_name}", child
    elif _is_object(value):
        for key, child in value.items():
            yield f".{key}" if isinstance(key, str) else f"[{key!r}]", child
    elif _is_array(value):
        for index, child in enumerate(value):
            yield f"[{index}]", child


def _reason(value: Any) -> str | None:  # noqa: ANN401 - a free-form value
    """Say why JSON cannot hold a value itself, whatever its children are."""
    match value:
        case float() if not math.isfinite(value):
            return f"Expected a finite number, got {value}"
        case str() if not is_unicode(value):
            return LONE_SURROGATE
        case _ if _is_object(value):
            bad = [key for key in value if not isinstance(key, str) or not is_unicode(key)]
            return f"Expected names of Unicode text, got {bad[0]!a}" if bad else None
        case _:
            return None if _is_encodable(value) else f"Expected JSON, got {_kind(value)}"


def _is_encodable(value: Any) -> bool:  # noqa: ANN401 - a free-form value
    if _is_container(value):
        return True
    if isinstance(value, set | frozenset | bytes | bytearray) or value is msgspec.UNSET:
        return False
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_object(value: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_container(value: object) -> bool:
    return isinstance(value, msgspec.Struct) or _is_object(value) or _is_array(value)


def _kind(value: object) -> str:
    return type(value).__name__


def is_unicode(text: str) -> bool:
    """Return whether text can be encoded: Python's may hold halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _invalid(path: str, reason: str) -> InvalidCommand:
    return InvalidCommand(path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…", reason)
