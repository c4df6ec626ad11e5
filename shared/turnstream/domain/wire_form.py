"""The wire form of values: JSON with the contract's names, as programs in every language exchange it.

Entities, content parts, patches, commands and events have it by `to_dict`, `to_json`, `from_dict` and `from_json`, and
as types of pydantic models and FastAPI endpoints. Absent fields are left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar

import msgspec

from turnstream.domain.json_input import convert, decode_json, is_object
from turnstream.domain.representation import show
from turnstream.errors import InvalidCommand
from turnstream.pydantic_schema import core_schema_of, json_schema_of

Kind = TypeVar("Kind")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class WireValue(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An immutable value with a wire form."""

    def __repr__(self) -> str:
        """Show what it is, without content."""
        return show(self)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the names and values of the wire form, as a pydantic model does: `dict(value)` is `to_dict`."""
        return iter(self.to_dict().items())

    def to_dict(self) -> dict[str, Any]:
        """Return the wire form as JSON has it: dicts, lists, text, numbers, booleans and `None`; times as text."""
        wire_form: dict[str, Any] = _decode(self.to_json())
        return wire_form

    def to_json(self) -> bytes:
        """Return the wire form as JSON, in UTF-8; `.decode()` makes text of it."""
        return _encode(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the value of a wire form, as `to_dict` or another program has made it; unknown fields are ignored.

        Raises:
            InvalidCommand: a field is missing, has the wrong type, or is nested too deep; `path` names it.

        """
        return convert(data, cls)

    @classmethod
    def from_json(cls, data: bytes | str, *, max_bytes: int | None = None) -> Self:
        """Return the value of a wire form, as `to_json` or another program has made it; unknown fields are ignored.

        Size and depth are checked before the JSON is parsed.

        Args:
            data: JSON, in UTF-8.
            max_bytes: the largest size of the JSON; `None`: any.

        Raises:
            InvalidCommand: too large, too deep, not JSON, or a field is missing or has the wrong type.

        """
        encoded = data.encode(errors="surrogatepass") if isinstance(data, str) else data
        return cls.from_dict(decode_json(encoded, _decode, max_bytes))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:  # noqa: ANN401 - pydantic's protocol
        """Return how pydantic validates and serialises the value."""
        return core_schema_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, handler: Any) -> Any:  # noqa: ANN401 - pydantic's protocol
        """Return the schema of the wire form, for OpenAPI."""
        return json_schema_of(cls, handler)


def variant(data: object, variants: Mapping[str, type[WireValue]], kind: type[Kind]) -> type[Kind]:
    """Return the class that the field `type` of a wire form names.

    Args:
        data: the wire form.
        variants: the classes by their wire types.
        kind: the class that is wanted, or a base class of several.

    Raises:
        InvalidCommand: there is no such field, or it names no class of this kind.

    """
    if not is_object(data):
        raise InvalidCommand("$", f"Expected `object`, got `{type(data).__name__}`")
    name: object = data.get("type")
    if name is None:
        raise InvalidCommand("$", "Object missing required field `type`")
    found = variants.get(name) if isinstance(name, str) else None
    if found is None or not issubclass(found, kind):
        raise InvalidCommand("$.type", f"Expected a type of {kind.__name__}, got {str(name)[:64]!r}")
    return found
