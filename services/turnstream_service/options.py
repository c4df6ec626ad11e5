"""The options that the services share."""

import math
from typing import Annotated, Final, TypeVar

import typer

from turnstream_service.arguments import URL_VARIABLE, LogLevel, version_text

HELP_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


Seconds = TypeVar("Seconds", bound=float | None)


def check_finite(seconds: Seconds) -> Seconds:
    """Return an option's seconds, `None` if it was not given; typer's own bounds let `inf` pass."""
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter(f"expected a number of seconds, not {seconds}")
    return seconds


def print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    """Print the version of the package and end, if asked to."""
    if wanted:
        typer.echo(version_text())
        raise typer.Exit


RedisUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help=f"Where the server is; {URL_VARIABLE} if not given, else redis://localhost:6379.",
    ),
]
Log = Annotated[LogLevel, typer.Option("--log-level", help="Least important messages to log, on standard error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text for people.")]
Version = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=print_version, help="Show the version and exit."),
]
