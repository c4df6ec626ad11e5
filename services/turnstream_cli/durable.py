"""The work of `turnstream subscriptions …`."""

from datetime import datetime
from typing import cast

import typer

from turnstream import Position, Turnstream
from turnstream.client.subscriptions.start import Start, parse_age
from turnstream_cli.output import print_json, print_table
from turnstream_cli.running import REFUSED


async def print_subscriptions(redis_url: str | None, *, as_json: bool) -> None:
    """Print all subscriptions."""
    async with Turnstream.connect(redis_url) as ts:
        infos = [each async for each in ts.admin.consumers.list()]
    if as_json:
        for info in infos:
            print_json(info)
        return
    rows = (
        (
            i.name,
            str(len(i.members)),
            str(i.lag),
            f"{i.retried_events} of {i.retried_sessions} sessions",
            f"{i.parked_events} of {i.parked_sessions} sessions",
        )
        for i in infos
    )
    print_table(("subscription", "members", "behind", "retried", "parked"), rows)


async def print_lag(redis_url: str | None, name: str, *, as_json: bool) -> None:
    """Print how far a subscription is."""
    async with Turnstream.connect(redis_url) as ts:
        lags = [each async for each in ts.admin.consumers.lag(name)]
    if as_json:
        for lag in lags:
            print_json(lag)
        return
    rows = (
        (str(lag.partition), str(lag.mark.sequence) if lag.mark else "–", str(lag.head.sequence), str(lag.behind))
        for lag in lags
    )
    print_table(("partition", "handled", "head", "behind"), rows)


async def reset_to(redis_url: str | None, name: str, place: Start | datetime) -> None:
    """Set the position of a subscription."""
    async with Turnstream.connect(redis_url) as ts:
        try:
            await ts.admin.consumers.reset(name, place)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--to") from None
    typer.echo(f"{name} goes on from there")


def place_of(text: str) -> Start | datetime:
    """Return the place that was typed: `now`, `beginning`, an age or a position."""
    if text in {"now", "beginning"}:
        return cast("Start", text)
    try:
        return Position.parse(text) if ":" in text else parse_age(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--to") from None


async def print_parked(redis_url: str | None, name: str, *, as_json: bool) -> None:
    """Print the retried and parked sessions of a subscription."""
    async with Turnstream.connect(redis_url) as ts:
        sessions = [each async for each in ts.admin.consumers.parked(name)]
    if as_json:
        for session in sessions:
            print_json(session)
        return
    rows = (
        (
            *(s.session_id, str(s.events), str(s.lost), s.since.isoformat(" ", "seconds")),
            f"{s.reason} ({s.attempts} ×)",
            "parked" if s.is_parked else "retried",
            s.next_try.isoformat(" ", "seconds") if s.next_try else "–",
        )
        for s in sessions
    )
    print_table(("session", "events", "lost", "since", "error", "state", "next try"), rows)


async def redrive_session(redis_url: str | None, name: str, session_id: str, timeout: float) -> None:
    """Redrive a session and say how far that came."""
    async with Turnstream.connect(redis_url) as ts:
        left = await ts.admin.consumers.redrive(name, session_id, timeout=timeout)
    if left:
        typer.echo(f"error: an event was not handled again; {left} wait", err=True)
        raise typer.Exit(REFUSED)
    typer.echo("all handled")


async def discard_session(redis_url: str | None, name: str, session_id: str, timeout: float) -> None:
    """Drop what waits in a session."""
    async with Turnstream.connect(redis_url) as ts:
        await ts.admin.consumers.discard(name, session_id, timeout=timeout)
    typer.echo("discarded")


async def forget_subscription(redis_url: str | None, name: str) -> None:
    """Forget a subscription."""
    async with Turnstream.connect(redis_url) as ts:
        await ts.admin.consumers.forget(name)
    typer.echo(f"{name} is forgotten")
