"""Fields of typed JSON that a command does not have: workers ignore them, so a typing error would go unnoticed."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, cast

import msgspec
from msgspec import inspect


class UnknownField(msgspec.Struct, frozen=True):
    """A field that is ignored: its JSON path, and the known field whose name is most like it."""

    path: str
    suggestion: str | None = None


def find_unknown_fields(kind: type[msgspec.Struct], value: object) -> Iterator[UnknownField]:
    """Yield the fields of decoded JSON, nested ones too, that a struct does not have.

    Args:
        kind: the struct that the JSON is to become.
        value: the JSON, decoded to plain values.

    """
    return _in_value(inspect.type_info(kind), value, "$")


def closest_name(name: str, known: list[str]) -> str | None:
    """Return the known name that is most like a mistyped one; `None` if none is alike."""
    return next(iter(get_close_matches(name, known, 1)), None)


def _in_value(kind: inspect.Type, value: Any, path: str) -> Iterator[UnknownField]:  # noqa: ANN401 - any JSON
    match kind:
        case inspect.UnionType():
            for option in kind.types:
                yield from _in_value(option, value, path)
        case inspect.StructType() if isinstance(value, dict):
            yield from _in_object(kind, cast("dict[str, Any]", value), path)
        case inspect.VarTupleType() if isinstance(value, list):
            for index, item in enumerate(cast("Sequence[Any]", value)):
                yield from _in_value(kind.item_type, item, f"{path}[{index}]")
        case _:
            pass


def _in_object(kind: inspect.StructType, value: dict[str, Any], path: str) -> Iterator[UnknownField]:
    if kind.tag_field is not None and value.get(kind.tag_field) != kind.tag:
        # Another struct of the union.
        return
    known = {field.encode_name: field.type for field in kind.fields}
    for name, item in value.items():
        if name in known:
            yield from _in_value(known[name], item, f"{path}.{name}")
        elif name != kind.tag_field:
            yield UnknownField(f"{path}.{name}", closest_name(name, list(known)))
