"""`turnstream dev`: a server and workers for as long as you look at them."""

import asyncio
import shlex
from pathlib import Path
from typing import Final

import typer

from turnstream.adapters.embedded import EmbeddedServer
from turnstream_cli.options import DEFAULT_DIRECTORY
from turnstream_cli.worker_processes import worker_processes
from turnstream_service.arguments import URL_VARIABLE, LogLevel

WELCOME: Final = """\
Server:   {url}
Data:     {data}
Workers:  {processes}

In another terminal:
  export {variable}={url}
  turnstream tail
  turnstream send create-session '{{"config": {{"provider": "openai", "model": "gpt-4"}}}}'
  turnstream list

Ctrl-C ends the server and the workers. To go on with the same data: {command}"""


async def serve(directory: Path, port: int | None, processes: int, log_level: LogLevel) -> None:
    """Run a server and workers until cancelled, or until the workers end."""
    async with (
        await EmbeddedServer.start(directory, port=port) as server,
        # One supervisor, which starts a crashed worker again.
        worker_processes(server.url, 1, log_level, "--processes", str(processes)) as workers,
    ):
        typer.echo(_welcome(server.url, directory, processes))
        await workers.during(asyncio.Event().wait())


def _welcome(url: str, directory: Path, processes: int) -> str:
    return WELCOME.format(
        url=url,
        data=directory.resolve(),
        processes=processes,
        variable=URL_VARIABLE,
        command="turnstream dev"
        if directory == DEFAULT_DIRECTORY
        else f"turnstream dev --directory {_word(directory)}",
    )


def _word(path: Path) -> str:
    return shlex.quote(str(path))
