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
    fields = {_camel(name): value for name, value in vars(error).items() if not name.startswith("_")}
    return msgspec.json.encode(ErrorLine(type(error).__name__, str(error), fields))


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
