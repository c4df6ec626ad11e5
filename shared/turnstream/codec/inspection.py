"""Which field of a command cannot be put into JSON as it is: the slow road, taken only when something is wrong."""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import fields

from turnstream.errors import InvalidCommand

MAX_PATH = 120
"""Characters of a path that an error shows."""


def find_unencodable(command: msgspec.Struct, max_depth: int) -> InvalidCommand | None:
    """Return the first field that JSON would lose or change; `None` if there is none."""
    for path, value, depth in _walk("$", command, 1):
        reason = _too_deep(depth, max_depth, value) or _reason(value)
        if reason:
            return InvalidCommand(path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…", reason)
        if depth > max_depth:
            break
    return None


def _walk(path: str, value: object, depth: int) -> Iterator[tuple[str, object, int]]:
    """Yield every value with its path and level, depth first; whoever asks stops before it gets too deep."""
    yield path, value, depth
    for name, child in _children(value):
        yield from _walk(f"{path}{name}", child, depth + 1)


def _children(value: Any) -> Iterator[tuple[str, object]]:  # noqa: ANN401 - a free-form value
    if isinstance(value, msgspec.Struct):
        for field in fields(value):
            child = getattr(value, field.name)
            if child is not msgspec.UNSET:
                yield f".{field.encode_name}", child
    elif isinstance(value, dict):
        for key, child in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield f".{key}", child
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield f"[{index}]", child


def _too_deep(depth: int, max_depth: int, value: object) -> str | None:
    nested = isinstance(value, msgspec.Struct | dict | list | tuple)
    return f"Nested deeper than {max_depth} levels" if nested and depth > max_depth else None


def _reason(value: object) -> str | None:
    match value:
        case float() if not math.isfinite(value):
            return f"Expected a finite number, got {value}"
        case str() if not _is_unicode(value):
            return "Expected Unicode text, got a lone surrogate"
        case None | bool() | int() | float() | str() | list() | tuple() | datetime() | msgspec.Struct():
            return None
        case dict():
            bad = [key for key in value if not isinstance(key, str) or not _is_unicode(key)]  # pyright: ignore[reportUnknownVariableType]
            return f"Expected names of Unicode text, got {bad[0]!a}" if bad else None  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return f"Expected JSON, got {type(value).__name__}"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
