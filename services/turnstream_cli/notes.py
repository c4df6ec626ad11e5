"""Notes and warnings on standard error, next to the output of a command: text, or under `--json` a line of JSON."""

from typing import Any

import msgspec
import typer

from turnstream.logging import printable, printable_json
from turnstream_cli.unknown_fields import UnknownField


def print_command_id(command_id: str, *, as_json: bool) -> None:
    """Print the id under which a command is sent, and can be sent again."""
    _print({"commandId": command_id}, f"command id: {command_id}", as_json=as_json)


def warn_of_unknown(field: UnknownField, *, as_json: bool) -> None:
    """Warn that a field of the JSON is ignored."""
    suggestion = f"; did you mean {field.suggestion}?" if field.suggestion else ""
    text = f"there is no field {field.path}, it is ignored{suggestion}"
    record = {"warning": text, "path": field.path, "suggestion": field.suggestion}
    _print(record, f"warning: {text}", as_json=as_json)


def _print(record: dict[str, Any], text: str, *, as_json: bool) -> None:
    typer.echo(printable_json(msgspec.json.encode(record)) if as_json else printable(text), err=True)
