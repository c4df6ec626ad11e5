"""Runs commands in the test's own process: the same code on the same terminal, without an interpreter for each."""

import asyncio
import logging
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import typer
from typer.testing import CliRunner


def can_run_here() -> bool:
    """Return whether a command can run its event loop here: inside a running one it cannot."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def run_here(
    app: typer.Typer, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str = ""
) -> CompletedProcess[str]:
    """Run a command to its end; an exception that the program did not catch is raised.

    Args:
        app: the program.
        arguments: the words typed after its name.
        folder: where it runs.
        environment: its whole environment.
        stdin: its standard input.

    """
    unset: dict[str, str | None] = dict.fromkeys(os.environ.keys() - environment.keys())
    with _own_logging(), chdir(folder):
        result = CliRunner(env={**unset, **environment}).invoke(app, arguments, stdin, prog_name=app.info.name)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


@contextmanager
def _own_logging() -> Generator[None]:
    """Give back the root logger's handlers: a program configures it, and closes those that it finds."""
    root = logging.getLogger()
    kept, level = root.handlers, root.level
    root.handlers = []
    try:
        yield
    finally:
        root.handlers = kept
        root.setLevel(level)
