"""The options that several commands share, and how a command is carried out."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second

import asyncio
import logging
import math
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

REFUSED: Final = 1
MISFIT: Final = 2
SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


class LogLevel(StrEnum):
    """The least important messages to log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The TOML file of endpoints.")]
RedisUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="Where the server is; TURNSTREAM_REDIS_URL if not given.")
]
Log = Annotated[LogLevel, typer.Option("--log-level", help="Least important messages to log, on standard error.")]
EndpointName = Annotated[str, typer.Option("--endpoint", metavar="NAME", help="The endpoint's name in the file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text for people.")]


def check_finite(seconds: float) -> float:
    """Return an option's seconds; typer's own bounds let `inf` pass."""
    if not math.isfinite(seconds):
        raise typer.BadParameter(f"expected a number of seconds, not {seconds}")
    return seconds


Timeout = Annotated[
    float, typer.Option(min=0, callback=check_finite, help="Seconds to wait for the relay that has to do it.")
]


def execute(work: Coroutine[Any, Any, None], log_level: LogLevel, *, as_json: bool = False) -> None:
    """Run a command's coroutine; an expected failure becomes one line, of JSON if wanted, and an exit status."""
    from turnstream import TurnstreamError, Unavailable
    from turnstream.errors import ConfigurationError
    from turnstream.logging import configure_logging, printable, printable_json
    from turnstream.process import open_standard_streams
    from turnstream.wire import encode_error

    open_standard_streams()
    configure_logging(log_level)
    # They log every request with its whole URL, which may be a secret.
    for library in ("httpx2", "httpcore2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        asyncio.run(work)
    except TurnstreamError as error:
        typer.echo(printable_json(encode_error(error)) if as_json else f"error: {printable(str(error))}", err=True)
        misfit = isinstance(error, ConfigurationError | Unavailable)
        raise typer.Exit(MISFIT if misfit else REFUSED) from None
    except asyncio.CancelledError:
        # Stopped before a server answered.
        raise typer.Exit from None
