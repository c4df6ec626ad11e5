"""`turnstream malformed`: entries of the command streams that could not be read."""

import typer

from turnstream import InvalidCommand, Turnstream
from turnstream.logging import printable
from turnstream_service.output import print_if_empty, print_json, print_table, time_text


async def print_malformed(redis_url: str | None, *, as_json: bool) -> None:
    """Print the entries, without their contents."""
    async with Turnstream.connect(redis_url) as ts:
        infos = [info async for info in ts.admin.malformed.list()]
    if not infos:
        print_if_empty("No entry is malformed.", as_json=as_json)
        return
    if as_json:
        for info in infos:
            print_json({"id": info.id, "sentAt": info.sent_at, "error": info.error, "shortened": info.shortened})
        return
    rows = ((info.id, time_text(info.sent_at), info.error) for info in infos)
    print_table(("id", "sent", "error"), rows)


async def print_entry(redis_url: str | None, entry_id: str, *, as_json: bool) -> None:
    """Print an entry with its contents."""
    async with Turnstream.connect(redis_url) as ts:
        info = await ts.admin.malformed.show(entry_id)
    if info is None:
        raise _absent(entry_id)
    if as_json:
        print_json(info)
        return
    typer.echo(f"{time_text(info.sent_at)}  {printable(info.error)}")
    if info.shortened:
        typer.echo("It was too large to be kept whole.")
    for name, value in info.fields.items():
        typer.echo(f"  {printable(name)}: {printable(value)}")


async def redrive(redis_url: str | None, entry_id: str, *, as_json: bool) -> None:
    """Send an entry once more."""
    async with Turnstream.connect(redis_url) as ts:
        found = await ts.admin.malformed.redrive(entry_id)
    _print_done(entry_id, "redriven", found=found, as_json=as_json)


async def discard(redis_url: str | None, entry_id: str, *, as_json: bool) -> None:
    """Delete an entry."""
    async with Turnstream.connect(redis_url) as ts:
        found = await ts.admin.malformed.discard(entry_id)
    _print_done(entry_id, "discarded", found=found, as_json=as_json)


def _print_done(entry_id: str, done: str, *, found: bool, as_json: bool) -> None:
    if not found:
        raise _absent(entry_id)
    if as_json:
        print_json({"id": entry_id, "status": done})
    else:
        typer.echo(done)


def _absent(entry_id: str) -> InvalidCommand:
    return InvalidCommand("ID", f"There is no malformed entry {entry_id}")
