"""`turnstream parked`: sessions whose commands cannot be applied."""

import typer

from turnstream import InvalidCommand, Turnstream
from turnstream.admin import QueueProgress
from turnstream.logging import printable
from turnstream_cli.output import print_json, print_table
from turnstream_cli.running import Refused


async def print_parked(redis_url: str | None, *, as_json: bool) -> None:
    """Print the parked sessions."""
    async with Turnstream.connect(redis_url) as ts:
        infos = [each async for each in ts.admin.parked.list()]
    if as_json:
        for info in infos:
            print_json(info)
        return
    rows = ((i.session_id, str(i.commands), str(i.size), i.since.isoformat(" ", "seconds"), i.error) for i in infos)
    print_table(("session", "commands", "bytes", "since", "error"), rows)


async def print_queue(redis_url: str | None, session_id: str, *, as_json: bool) -> None:
    """Print what waits in a session."""
    shown = 0
    async with Turnstream.connect(redis_url) as ts:
        async for waiting in ts.admin.parked.show(session_id):
            shown += 1
            if as_json:
                print_json(waiting)
            else:
                sent = waiting.sent_at.isoformat(" ", "seconds")
                typer.echo(f"{sent}  {printable(waiting.command_id)}  {printable(waiting.type)}")
                typer.echo(f"  {printable(bytes(waiting.data).decode(errors='replace'))}")
    if not shown:
        raise InvalidCommand("SESSION", f"Session {session_id} is not parked")


async def redrive(redis_url: str | None, session_id: str, *, as_json: bool) -> None:
    """Redrive a session and print how far that came."""
    async with Turnstream.connect(redis_url) as ts:
        _tell("redriven", await ts.admin.parked.redrive(session_id), as_json=as_json)


async def discard(redis_url: str | None, session_id: str, *, everything: bool, as_json: bool) -> None:
    """Discard commands of a session and print how many are left."""
    async with Turnstream.connect(redis_url) as ts:
        _tell("discarded", await ts.admin.parked.discard(session_id, everything=everything), as_json=as_json)


def _tell(what: str, progress: QueueProgress, *, as_json: bool) -> None:
    if as_json:
        print_json(progress)
    else:
        typer.echo(f"{progress.done} {what}, {progress.left} left")
    if progress.error:
        raise Refused(f"The next command cannot be applied: {progress.error}")
