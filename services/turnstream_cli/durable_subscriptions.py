"""The work of `turnstream subscriptions …`."""

from datetime import datetime
from typing import cast

import typer

from turnstream import Position, Turnstream
from turnstream.client.subscriptions.start import Start, parse_age
from turnstream_service.failures import Refused
from turnstream_service.output import print_if_empty, print_json, print_table, time_text


async def print_subscriptions(redis_url: str | None, *, as_json: bool) -> None:
    """Print all subscriptions."""
    async with Turnstream.connect(redis_url) as ts:
        infos = [each async for each in ts.admin.consumers.list()]
    if not infos:
        print_if_empty("There are no durable subscriptions.", as_json=as_json)
        return
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
    print_table(("subscription", "consumers", "lag", "retried", "parked"), rows)


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
    print_table(("partition", "handled", "head", "lag"), rows)


async def reset_to(redis_url: str | None, name: str, start: Start | datetime, *, as_json: bool) -> None:
    """Set the position of a subscription."""
    async with Turnstream.connect(redis_url) as ts:
        try:
            await ts.admin.consumers.reset(name, start)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--to") from None
    _print_done(f"{name} continues from there", {"subscription": name, "status": "reset"}, as_json=as_json)


def start_of(text: str) -> Start | datetime:
    """Return the start that was typed: `now`, `beginning`, an age or a position."""
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
    if not sessions:
        print_if_empty(f"{name} has no retried or parked session.", as_json=as_json)
        return
    if as_json:
        for session in sessions:
            print_json(session)
        return
    rows = (
        (
            *(s.session_id, str(s.events), str(s.lost), time_text(s.since)),
            f"{s.reason} ({s.attempts} ×)",
            "parked" if s.is_parked else "retried",
            time_text(s.next_try) if s.next_try else "–",
        )
        for s in sessions
    )
    print_table(("session", "events", "lost", "since", "error", "state", "next attempt"), rows)


async def redrive_session(redis_url: str | None, name: str, session_id: str, timeout: float, *, as_json: bool) -> None:
    """Redrive a session and print how many events are left."""
    async with Turnstream.connect(redis_url) as ts:
        left = await ts.admin.consumers.redrive(name, session_id, timeout=timeout)
    if left:
        raise Refused(f"An event was not handled again; {left} wait")
    _print_done("all handled", _done(name, session_id, "redriven"), as_json=as_json)


async def discard_session(redis_url: str | None, name: str, session_id: str, timeout: float, *, as_json: bool) -> None:
    """Drop the waiting events of a session."""
    async with Turnstream.connect(redis_url) as ts:
        await ts.admin.consumers.discard(name, session_id, timeout=timeout)
    _print_done("discarded", _done(name, session_id, "discarded"), as_json=as_json)


async def forget_subscription(redis_url: str | None, name: str, *, as_json: bool) -> None:
    """Delete a subscription."""
    async with Turnstream.connect(redis_url) as ts:
        await ts.admin.consumers.forget(name)
    _print_done(f"{name} is forgotten", {"subscription": name, "status": "forgotten"}, as_json=as_json)


def _done(name: str, session_id: str, status: str) -> dict[str, str]:
    return {"subscription": name, "sessionId": session_id, "status": status}


def _print_done(text: str, record: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        typer.echo(text)
