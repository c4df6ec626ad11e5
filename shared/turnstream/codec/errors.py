"""Errors as JSON, for programs that read what another program prints."""

from typing import Any

import msgspec

from turnstream.errors import TurnstreamError


class ErrorLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error: the name of its class, its text, and its fields, in camel case."""

    error: str
    message: str
    fields: dict[str, Any] = {}


def encode_error(error: TurnstreamError) -> bytes:
    """Return an error as one line of JSON."""
    fields = {_camel(name): _encodable(value) for name, value in vars(error).items() if not name.startswith("_")}
    return msgspec.json.encode(ErrorLine(type(error).__name__, _encodable(str(error)), fields))


def _encodable(value: Any) -> Any:  # noqa: ANN401 - any field
    """Return a value that JSON can hold: typed text may not be Unicode."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
