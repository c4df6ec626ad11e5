"""`turnstream tail`: past events, and live ones as they happen."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import typer

from turnstream import ResyncRequired, Turnstream
from turnstream.client.subscriptions.start import Start, parse_age
from turnstream.events import (
    ContextWindowCritical,
    Event,
    MessageAdded,
    MessageRemoved,
    MessageUpdated,
    SessionCreated,
    TokenMetricsUpdated,
)
from turnstream.logging import printable, printable_json
from turnstream.wire import EVENT_TYPES, AnyEvent
from turnstream_cli.output import part_text
from turnstream_service.output import print_if_empty, print_json, print_styled, time_text

Styled = Sequence[str | tuple[str, str]]
"""Texts, and pairs of a text and its style."""

TYPE_WIDTH: Final = max(map(len, EVENT_TYPES))


def event_classes(names: Sequence[str]) -> list[type[AnyEvent]]:
    """Return the classes of these wire types."""
    unknown = [name for name in names if name not in EVENT_TYPES]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(EVENT_TYPES)}", param_hint="--type")
    return [EVENT_TYPES[name] for name in names]


def start_of(since: str | None, *, past: bool) -> Start | datetime:
    """Return the time that long ago; without an age the beginning, or now."""
    if since is None:
        return "beginning" if past else "now"
    try:
        return parse_age(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None


class TailOptions(NamedTuple):
    """The events to show: which, from where, how many, and whether to wait for new ones."""

    types: Sequence[type[AnyEvent]]
    session_id: str | None
    start: Start | datetime
    limit: int | None
    follow: bool


async def tail(redis_url: str | None, options: TailOptions, *, as_json: bool) -> None:
    """Print events, past ones too if wanted, until this is cancelled, or the end that was asked for is reached."""
    show = _print_json if as_json else _print
    async with Turnstream.connect(redis_url) as ts:
        end = None if options.follow else await ts.position()
        start = await ts.position(options.start) if isinstance(options.start, datetime) else options.start
        async with ts.subscribe(*options.types, session_id=options.session_id, start=start) as events:
            if end is None:
                typer.echo("Listening for events; Ctrl-C ends.", err=True)
            shown = 0
            async for event in events if end is None else events.until(end):
                show(event)
                shown += 1
                if shown == options.limit:
                    return
    if not shown:
        print_if_empty("No events.", as_json=as_json)


def _print(event: AnyEvent | ResyncRequired) -> None:
    print_styled(*(_gone(event) if isinstance(event, ResyncRequired) else _line(event)))


def _print_json(event: AnyEvent | ResyncRequired) -> None:
    if isinstance(event, ResyncRequired):
        print_json({"type": event.type, **msgspec.to_builtins(event), "position": str(event.position)})
    else:
        typer.echo(printable_json(event.to_json()))


def _gone(resync: ResyncRequired) -> Styled:
    lost = "an unknown number of" if resync.lost is None else str(resync.lost)
    text = f"{resync.type}: {lost} events of partition {resync.partition} are gone ({resync.reason})"
    return ((text, "bold yellow"),)


def _line(event: Event) -> Styled:
    time = time_text(event.timestamp, "milliseconds")
    return (
        (f"{time}  ", "dim"),
        (f"{event.type:<{TYPE_WIDTH}}  ", "bold cyan"),
        (f"{printable(event.session_id)}  ", "dim"),
        _detail(event),
    )


def _detail(event: Event) -> str:
    match event:
        case SessionCreated():
            detail = printable(f"{event.session.config.provider} / {event.session.config.model}")
        case MessageAdded():
            content = " ".join(part_text(part) for part in event.message.content)
            detail = f"{event.message.role}: {' '.join(content.split())}"
        case MessageUpdated() | MessageRemoved():
            detail = printable(event.message_id)
        case TokenMetricsUpdated():
            detail = f"{event.metrics.total_tokens} tokens, {event.metrics.context_utilization:.0%} of the window"
        case ContextWindowCritical():
            detail = f"{event.utilization:.0%} of {event.max_context_window} tokens"
        case _:
            detail = f"version {event.version}"
    return detail
