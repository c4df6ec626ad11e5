"""`turnstream dev`: a server and workers for as long as you develop."""

import asyncio
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import typer

from turnstream.adapters.embedded import EmbeddedServer, is_directory_in_use, is_port_free
from turnstream.errors import ConfigurationError
from turnstream_cli.dev_address import (
    UntrustedFileError,
    is_private,
    read_address,
    remembered_port,
    remove_address,
    write_address,
)
from turnstream_cli.options import DEFAULT_DIRECTORY
from turnstream_cli.program_name import program_name
from turnstream_cli.worker_processes import worker_processes
from turnstream_service.arguments import URL_VARIABLE, LogLevel

WELCOME: Final = """\
Server:   {url}
Data:     {data}
Workers:  {processes}

In another terminal{where}:
  {program} tail
  {program} say chat-1 user "Hello" --create
  {program} get chat-1

For your own programs{and_others}:
  export {variable}={url}

Ctrl-C ends the server and the workers. To continue with the same data and address: {command}"""


async def serve(directory: Path, port: int | None, processes: int, log_level: LogLevel) -> None:
    """Run a server and workers until cancelled, or until the workers end.

    Raises:
        ConfigurationError: a server runs in this directory already, or it cannot start.

    """
    async with (
        _server(directory, port) as server,
        # One supervisor, which starts a crashed worker again.
        worker_processes(server.url, 1, log_level, "--processes", str(processes)) as workers,
    ):
        typer.echo(_welcome(server.url, directory, processes))
        await workers.during(asyncio.Event().wait())


@asynccontextmanager
async def _server(directory: Path, port: int | None) -> AsyncGenerator[EmbeddedServer]:
    """Run the server, and have its address in the directory for as long as it runs."""
    _create(directory)
    async with await _started(directory, port or _usual_port(directory)) as server:
        write_address(directory, server.url, server.port)
        try:
            yield server
        finally:
            remove_address(directory)


async def _started(directory: Path, port: int | None) -> EmbeddedServer:
    try:
        return await EmbeddedServer.start(directory, port=port)
    except ConfigurationError as error:
        url = _running_at(directory)
        if url is None:
            raise
        raise _already_running(directory, url) from error


def _already_running(directory: Path, url: str) -> ConfigurationError:
    return ConfigurationError(f"turnstream dev already runs in {directory.resolve()}, at {url}")


def _running_at(directory: Path) -> str | None:
    """Return the URL of the `turnstream dev` that runs in this directory."""
    try:
        return read_address(directory) if is_directory_in_use(directory) else None
    except UntrustedFileError:
        return None


def _create(directory: Path) -> None:
    """Create the directory, for this user only."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"The directory {directory} cannot hold a server's data: {error.strerror}") from error
    if not is_private(directory):
        text = f"note: other users can write to {directory}, so other commands do not look there for the address"
        typer.echo(f"{text}; chmod go-w {_word(directory)} changes it", err=True)


def _usual_port(directory: Path) -> int | None:
    """Return the port of the last time, unless another program has it now."""
    port = remembered_port(directory)
    # In a directory that is in use, the server there has the port.
    if port is None or is_port_free(port) or is_directory_in_use(directory):
        return port
    typer.echo(f"note: port {port} of the last time is taken: this time it is another one", err=True)
    return None


def _welcome(url: str, directory: Path, processes: int) -> str:
    program = program_name()
    is_found = directory == DEFAULT_DIRECTORY and is_private(directory)
    return WELCOME.format(
        url=url,
        data=directory.resolve(),
        processes=processes,
        variable=URL_VARIABLE,
        program=program,
        where=", in this directory" if is_found else ", after the line with export below",
        and_others=", and in other directories" if is_found else "",
        command=f"{program} dev" if directory == DEFAULT_DIRECTORY else f"{program} dev --directory {_word(directory)}",
    )


def _word(path: Path) -> str:
    return shlex.quote(str(path))
