"""The options that several commands share."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from turnstream_service.arguments import URL_VARIABLE
from turnstream_service.options import check_finite

DEFAULT_DIRECTORY: Final = Path(".turnstream")
"""Where `turnstream dev` keeps its data."""

STANDARD_INPUT: Final = "-"
"""The argument that stands for what standard input holds."""

DEFAULT_PROVIDER: Final = "openai"
DEFAULT_MODEL: Final = "gpt-4"
"""The model of a session that is created without one."""

COMMAND_TYPES: Final = (
    *("create-session", "get-session", "update-session", "delete-session", "add-message", "add-messages"),
    *("update-message", "remove-messages", "update-token-metrics", "list-sessions"),
)
"""The wire types of commands, to complete them without importing the library."""

EVENT_TYPES: Final = (
    *("session-created", "session-updated", "session-deleted", "message-added", "message-updated", "message-removed"),
    *("token-metrics-updated", "session-config-updated", "context-window-critical"),
)
"""The wire types of events, to complete them without importing the library."""


class MessageRole(StrEnum):
    """The author of a message that is typed."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    SUMMARY = "summary"


class RoleName(StrEnum):
    """The role of a user of the server."""

    OPERATOR = "operator"
    WORKER = "worker"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    SUBSCRIBER = "subscriber"


def complete_command_type(incomplete: str) -> list[str]:
    """Return the wire types of commands that begin with what is typed."""
    return [name for name in COMMAND_TYPES if name.startswith(incomplete)]


def complete_event_type(incomplete: str) -> list[str]:
    """Return the wire types of events that begin with what is typed."""
    return [name for name in EVENT_TYPES if name.startswith(incomplete)]


def locate_server(context: typer.Context, url: str | None) -> str | None:
    """Return the URL that is given, else that of a running `turnstream dev`; `None` leaves it to the settings."""
    if url is not None or URL_VARIABLE in os.environ or context.resilient_parsing:
        return url
    from turnstream_cli.dev_discovery import find_dev_server  # noqa: PLC0415 - `--help` need not import it

    try:
        here = Path.cwd()
    except FileNotFoundError:  # the directory was removed
        return None
    return find_dev_server(here)


RedisUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        callback=locate_server,
        help=f"Where the server is; if not given {URL_VARIABLE}, else the turnstream dev that runs in this directory "
        "or one above, else redis://localhost:6379.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
CommandId = Annotated[
    str | None,
    typer.Option("--command-id", metavar="ID", help="The command's id, for a resend; a new UUIDv7 if not given."),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0, callback=check_finite, help="Seconds to wait for the outcome; TURNSTREAM_TIMEOUT if not given."
    ),
]
Processes = Annotated[int, typer.Option(min=1, metavar="N", help="Worker processes; about one a core.")]
