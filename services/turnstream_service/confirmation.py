"""The question before something that cannot be undone."""

import sys

import typer

from turnstream.errors import ConfigurationError
from turnstream.logging import printable


class ConfirmationRequired(ConfigurationError):  # noqa: N818 - a state of the command
    """The message of a command that was not confirmed, because standard input is not a terminal."""


def confirm(question: str, *, confirmed: bool) -> None:
    """Ask whether to do something that cannot be undone; ends the program unless the answer is yes.

    Args:
        question: the action, as a question.
        confirmed: whether `--yes` was given: nothing is asked then.

    Raises:
        ConfirmationRequired: standard input is not a terminal.

    """
    if confirmed:
        return
    if not stdin_is_terminal():
        raise ConfirmationRequired(f"{question} This cannot be undone: confirm it with --yes")
    typer.confirm(f"{printable(question)} This cannot be undone.", abort=True, err=True)


def stdin_is_terminal() -> bool:
    """Return whether the user can answer a question."""
    return sys.stdin.isatty()
