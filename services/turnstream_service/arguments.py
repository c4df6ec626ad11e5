"""The parts of a command line that need no typer: `turnstream-worker` parses its own without it."""

from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import Final

URL_VARIABLE: Final = "TURNSTREAM_REDIS_URL"


class LogLevel(StrEnum):
    """The least important messages to log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def version_text() -> str:
    """Return the name and the version of the package."""
    try:
        return f"turnstream {version('turnstream')}"
    except PackageNotFoundError:
        return "turnstream (not installed: runs from its source)"
