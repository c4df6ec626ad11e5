"""`turnstream parked`: sessions whose commands cannot be applied."""

import typer

from turnstream import Turnstream
from turnstream.admin import QueueProgress
from turnstream.logging import printable
from turnstream_service.failures import Refused
from turnstream_service.output import print_if_empty, print_json, print_table, time_text


async def print_parked(redis_url: str | None, *, as_json: bool) -> None:
    """Print the parked sessions."""
    async with Turnstream.connect(redis_url) as ts:
        infos = [each async for each in ts.admin.parked.list()]
    if not infos:
        print_if_empty("No session is parked.", as_json=as_json)
        return
    if as_json:
        for info in infos:
            print_json(info)
        return
    rows = ((i.session_id, str(i.commands), str(i.size), time_text(i.since), i.error) for i in infos)
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
                typer.echo(f"{time_text(waiting.sent_at)}  {printable(waiting.command_id)}  {printable(waiting.type)}")
                typer.echo(f"  {printable(bytes(waiting.data).decode(errors='replace'))}")
    if not shown:
        raise _not_parked(session_id)


async def redrive(redis_url: str | None, session_id: str, *, as_json: bool) -> None:
    """Redrive a session and print how far that came."""
    async with Turnstream.connect(redis_url) as ts:
        progress = await ts.admin.parked.redrive(session_id)
    _print_progress(session_id, "redriven", progress, as_json=as_json)


async def discard(redis_url: str | None, session_id: str, *, everything: bool, as_json: bool) -> None:
    """Discard commands of a session and print how many are left."""
    async with Turnstream.connect(redis_url) as ts:
        progress = await ts.admin.parked.discard(session_id, everything=everything)
    _print_progress(session_id, "discarded", progress, as_json=as_json)


def _print_progress(session_id: str, done: str, progress: QueueProgress, *, as_json: bool) -> None:
    if not (progress.done or progress.left):
        raise _not_parked(session_id)
    if as_json:
        print_json(progress)
    else:
        typer.echo(f"{progress.done} {done}, {progress.left} left")
    if progress.error:
        raise Refused(f"The next command cannot be applied: {progress.error}")


def _not_parked(session_id: str) -> Refused:
    return Refused(f"Session {session_id} is not parked")
