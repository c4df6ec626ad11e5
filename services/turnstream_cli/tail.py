"""`turnstream tail`: live events, as they happen."""

from collections.abc import Sequence
from typing import Final

import typer
from rich.text import Text

from turnstream import (
    ContextWindowCritical,
    Event,
    MessageAdded,
    MessageRemoved,
    MessageUpdated,
    SessionCreated,
    TokenMetricsUpdated,
    Turnstream,
)
from turnstream.codec.events import encode_event
from turnstream.domain.events import EVENTS, AnyEvent
from turnstream_cli.output import console, part_text, printable

TYPE_WIDTH: Final = max(map(len, EVENTS))


def event_classes(names: Sequence[str]) -> list[type[AnyEvent]]:
    """Return the classes of these wire types."""
    unknown = [name for name in names if name not in EVENTS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(EVENTS)}", param_hint="--type")
    return [EVENTS[name] for name in names]


async def follow(
    redis_url: str | None, types: Sequence[type[AnyEvent]], session_id: str | None, *, as_json: bool
) -> None:
    """Print events until the connection is lost or this is cancelled."""
    async with Turnstream.connect(redis_url) as ts, ts.subscribe(*types, session_id=session_id) as events:
        typer.echo("Listening for events; Ctrl-C ends.", err=True)
        out = console()
        async for event in events:
            if as_json:
                typer.echo(encode_event(event))
            else:
                out.print(_line(event), soft_wrap=True)


def _line(event: Event) -> Text:
    time = event.timestamp.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return Text.assemble(
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
