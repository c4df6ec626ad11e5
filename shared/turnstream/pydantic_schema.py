"""The schemas with which pydantic, and so FastAPI, validates, serialises and documents the values of this library.

Only pydantic asks for them, so it is imported then, and not with this module.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, cast, get_args

import msgspec

from turnstream.errors import InvalidCommand

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core.core_schema import CoreSchema

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | float | bool | None"
JsonSchema: TypeAlias = dict[str, Any]

_REFERENCE = "#/$defs/"


class WireForm(Protocol):
    """A value with a wire form."""

    def to_dict(self) -> dict[str, Any]:
        """Return the wire form."""
        ...

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the value of a wire form, or raise `InvalidCommand`."""
        ...


def core_schema_of(kind: type[WireForm]) -> "CoreSchema":
    """Return how pydantic validates and serialises a class: it takes instances and wire forms, and gives wire forms."""
    from pydantic_core import core_schema  # noqa: PLC0415 - not needed without pydantic

    return core_schema.no_info_plain_validator_function(
        partial(_validated, kind),
        # A schema with a name is a component of its own in OpenAPI.
        ref=f"{kind.__module__}.{kind.__qualname__}:{id(kind)}",
        serialization=core_schema.plain_serializer_function_ser_schema(kind.to_dict),
    )


def json_schema_of(struct: type[msgspec.Struct], handler: "GetJsonSchemaHandler") -> JsonSchema:
    """Return the JSON Schema of a struct, with references to the classes and enumerations in it.

    Args:
        struct: its fields are those of the JSON.
        handler: pydantic's; it makes the components that are referred to.

    """
    _, components = msgspec.json.schema_components([struct], ref_template=_REFERENCE + "{name}")
    kinds = {kind.__name__: kind for kind in _kinds_in(struct)}

    def resolve(name: str) -> JsonValue:
        kind = kinds[name]
        if kind is not struct and _is_component(kind):
            return _reference(kind, handler)
        return _resolved(components[name], resolve)

    return cast("JsonSchema", resolve(struct.__name__))


def any_of(kinds: Iterable[type[WireForm]], handler: "GetJsonSchemaHandler") -> JsonSchema:
    """Return the JSON Schema of a value of any of these classes."""
    return {"anyOf": [_reference(kind, handler) for kind in kinds]}


def _reference(kind: type, handler: "GetJsonSchemaHandler") -> JsonSchema:
    """Return a reference to the component of a class, which the handler makes."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - as above
    from pydantic_core import core_schema  # noqa: PLC0415 - as above

    # The handler looks at names of schemas inside of another one only, such as that of a list.
    reference: JsonSchema = handler(core_schema.list_schema(TypeAdapter(kind).core_schema))["items"]
    return reference


def _is_component(kind: type[object]) -> bool:
    return issubclass(kind, Enum) or hasattr(kind, "__get_pydantic_core_schema__")


def _resolved(schema: JsonValue, replace: Callable[[str], JsonValue]) -> JsonValue:
    """Return a schema of msgspec's with other schemas in place of its references."""
    match schema:
        case {"$ref": str(reference)}:
            return replace(reference.removeprefix(_REFERENCE))
        case dict():
            # The mapping of a discriminator has references, too; `type` is a constant in each variant anyway.
            children = {name: child for name, child in schema.items() if name != "discriminator"}
            return {name: _resolved(child, replace) for name, child in children.items()}
        case list():
            return [_resolved(child, replace) for child in schema]
        case _:
            return schema


def _kinds_in(annotation: Any) -> Iterator[type]:  # noqa: ANN401 - a type
    """Yield the structs and enumerations that the fields of a struct, or a type, may hold."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct | Enum):
        yield annotation
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        for field in msgspec.structs.fields(annotation):
            yield from _kinds_in(field.type)
    for argument in get_args(annotation):
        yield from _kinds_in(argument)


def _validated(kind: type[WireForm], value: object) -> WireForm:
    from pydantic_core import PydanticCustomError  # noqa: PLC0415 - as above

    if isinstance(value, kind):
        return value
    try:
        if isinstance(value, Mapping):
            return kind.from_dict(cast("Mapping[str, Any]", value))
    except InvalidCommand as error:
        raise PydanticCustomError(
            "wire_form", "{reason} - at `{path}`", {"reason": error.reason, "path": error.path}
        ) from None
    raise PydanticCustomError("wire_form_type", "Input should be an object or a {name}", {"name": kind.__name__})
