"""`turnstream setup` and `turnstream migrate`: making a deployment ready, and bringing an older one to this layout."""

from time import monotonic
from typing import Final

import typer

from turnstream.adapters.redis.deployment.migration import Migration, migrate
from turnstream.adapters.redis.deployment.setup import SetUp, set_up
from turnstream.settings import load_settings
from turnstream_service.output import print_json

TELL_EVERY: Final = 1.0
"""Seconds between two reports of how far a migration is."""


async def set_up_deployment(redis_url: str | None, *, remove_old: bool, as_json: bool) -> None:
    """Make the deployment and load the functions; print what was done."""
    done = await set_up(load_settings(redis_url=redis_url), remove_others=remove_old)
    if as_json:
        print_json(done)
    else:
        _print_set_up(done)


async def migrate_deployment(redis_url: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Rename the keys of layout 1; print how far that is, and in the end what was done."""
    told = monotonic()
    state: Migration | None = None
    async for state in migrate(load_settings(redis_url=redis_url), dry_run=dry_run):
        if state.status == "running" and monotonic() - told >= TELL_EVERY:
            told = monotonic()
            _tell(state, as_json=as_json)
    if state is not None:
        _tell(state, as_json=as_json)


def _print_set_up(done: SetUp) -> None:
    state = "made now" if done.made else "was there"
    typer.echo(f"deployment: {done.partitions} partitions, layout {done.layout}, {state}")
    for primary in done.primaries:
        if primary.library is None:
            typer.echo(f"{primary.server}: no functions, for TURNSTREAM_SCRIPTS is evalsha")
            continue
        typer.echo(f"{primary.server}: {primary.library} {'loaded' if primary.loaded else 'was there'}")
        for name in primary.others:
            typer.echo(f"{primary.server}: {name} stays, for programs of another version; --remove-old removes it")
        for name in primary.removed:
            typer.echo(f"{primary.server}: {name} removed")


def _tell(state: Migration, *, as_json: bool) -> None:
    if as_json:
        print_json(state)
        return
    if state.status == "nothing to do":
        typer.echo("nothing to do: all keys have the names of layout 2")
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(state.keys.items()))
    what = "to rename" if state.dry_run else "renamed"
    text = f"{sum(state.keys.values()):,} keys {what} ({kinds or 'none'}), {state.entries:,} entries in their streams"
    others = f"; {state.others:,} keys that are not Turnstream's stay as they are" if state.others else ""
    typer.echo(f"{state.status}: {text}{others}", err=state.status == "running")
