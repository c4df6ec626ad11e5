"""The options that several commands share."""

import math
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

URL_VARIABLE: Final = "TURNSTREAM_REDIS_URL"

DEFAULT_DIRECTORY: Final = Path(".turnstream")
"""Where `turnstream dev` keeps its data."""


class LogLevel(StrEnum):
    """The least important messages to log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class RoleName(StrEnum):
    """The role of a user of the server."""

    OPERATOR = "operator"
    WORKER = "worker"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    SUBSCRIBER = "subscriber"


RedisUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help=f"Where the server is; {URL_VARIABLE} if not given, else redis://localhost:6379.",
    ),
]
Log = Annotated[LogLevel, typer.Option("--log-level", help="Least important messages to log, on standard error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text for people.")]
Processes = Annotated[int, typer.Option(min=1, metavar="N", help="Worker processes; about one a core.")]


Seconds = TypeVar("Seconds", bound=float | None)


def check_finite(seconds: Seconds) -> Seconds:
    """Return an option's seconds, `None` if it was not given; typer's own bounds let `inf` pass."""
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter(f"expected a number of seconds, not {seconds}")
    return seconds


def print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    """Print the version of the package and end, if asked to."""
    if not wanted:
        return
    try:
        installed = version("turnstream")
    except PackageNotFoundError:
        installed = "(not installed: runs from its source)"
    typer.echo(f"turnstream {installed}")
    raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=print_version, help="Show the version and exit."),
]
