"""The search for a running `turnstream dev`, by commands that were given no URL."""

from pathlib import Path
from typing import NoReturn

import typer

from turnstream.adapters.embedded import is_directory_in_use
from turnstream.logging import printable
from turnstream.settings import Secret, Settings
from turnstream_cli.dev_address import ADDRESS_FILE, UntrustedFileError, address_directories, read_address
from turnstream_cli.options import DEFAULT_DIRECTORY
from turnstream_service.arguments import URL_VARIABLE
from turnstream_service.exit_status import UNUSABLE


def find_dev_server(start: Path) -> str | None:
    """Return the URL of the `turnstream dev` that runs in this directory or the nearest one above.

    Prints on standard error which one it is, and which files are ignored because other users could have written them.

    Raises:
        typer.Exit: the file is there, but its server has ended.

    """
    for directory in address_directories(start, DEFAULT_DIRECTORY):
        try:
            url = read_address(directory)
        except UntrustedFileError as error:
            _note(f"ignored {directory / ADDRESS_FILE}: {error}")
            continue
        if url is None or not is_directory_in_use(directory):
            _refuse(directory)
        _note(f"connecting to turnstream dev at {Settings(redis_url=Secret(url)).masked_url}, found in {directory}")
        return url
    return None


def _refuse(directory: Path) -> NoReturn:
    message = (
        f"{directory / ADDRESS_FILE} is left from a turnstream dev that has ended. Start it again there, remove the "
        f"file, or name a server with --redis-url or {URL_VARIABLE}"
    )
    typer.echo(f"error: {printable(message)}", err=True)
    raise typer.Exit(UNUSABLE)


def _note(text: str) -> None:
    typer.echo(f"note: {printable(text)}", err=True)
