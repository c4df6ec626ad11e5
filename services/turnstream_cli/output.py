"""The output of commands: tables for people, by rich, or JSON lines; standard output holds nothing else."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from textwrap import indent
from typing import Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnstream import (
    ChatMessage,
    ImageContent,
    MessageContent,
    Session,
    SessionInfo,
    SessionPage,
    TextContent,
    TokenMetrics,
    ToolCallContent,
)
from turnstream.catalogue import PriceSource
from turnstream.logging import printable, printable_json

UNBOUNDED: Final = 10_000
"""The width of an output that is not a terminal: nothing is wrapped."""

UNBROKEN: Final = {"session", "id", "since", "sent", "updated", "next attempt"}
"""The columns of ids and times."""

PRICES: Final = {
    PriceSource.OVERRIDE: "by your own price table",
    PriceSource.SPEC: "by the built-in price table",
    PriceSource.CATALOGUE: "by the price catalogue",
    PriceSource.UNKNOWN: "the price of this model is unknown",
}


def console() -> Console:
    """Return what prints to standard output: in colours on a terminal, plain and unwrapped elsewhere."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNBOUNDED)


def time_text(time: datetime, precision: str = "seconds") -> str:
    """Return a time as all commands print it: in UTC, as `2026-01-02T03:04:05Z`; `precision` is that of isoformat."""
    return time.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever msgspec can encode
    """Print one line of JSON."""
    typer.echo(printable_json(msgspec.json.encode(value)))


def print_result(result: Any) -> None:  # noqa: ANN401 - each command has a result of its own
    """Print what a command gave back, for people."""
    if isinstance(result, Session):
        print_session(result)
    elif isinstance(result, SessionPage):
        print_infos(result.sessions)
    elif isinstance(result, bool):
        typer.echo("deleted" if result else "there was no such session")
    elif result is None:
        typer.echo("there is no such session")
    else:
        typer.echo(printable_json(msgspec.json.format(msgspec.json.encode(result), indent=2)))


def print_session(session: Session, last: int | None = None) -> None:
    """Print what a session is, without its messages; `last` is the number of messages that were asked for."""
    config, metrics = session.config, session.metrics
    table = _table("", "", header=False)
    rows = (
        ("session", session.id),
        ("model", f"{config.provider} / {config.model}"),
        ("state", f"{_state(session)}, version {session.version}"),
        ("messages", str(len(session.messages)) if last is None else f"the last {len(session.messages)}"),
        ("tokens", _tokens(metrics)),
        ("cost", f"${metrics.estimated_cost:.6f}, {PRICES[metrics.price_source]}"),
        ("created", time_text(session.created_at)),
        ("updated", time_text(session.updated_at)),
        ("metadata", "" if session.metadata is None else msgspec.json.encode(session.metadata).decode()),
    )
    for name, value in rows:
        if value:
            table.add_row(Text(name, "bold"), Text(printable(value)))
    _print(table)


def print_messages(messages: Iterable[ChatMessage]) -> None:
    """Print messages with all their content; as blocks, for a column would be as wide as the longest of them."""
    out = console()
    for message in messages:
        head = f"{time_text(message.created_at)}  {printable(message.id)}"
        content = "\n".join(part_text(part) for part in message.content)
        out.print()
        out.print(Text.assemble((message.role, "bold cyan"), "  ", (head, "dim")), soft_wrap=True)
        out.print(Text(indent(content, "  ")), soft_wrap=True)


def print_infos(infos: Iterable[SessionInfo]) -> None:
    """Print sessions, a line each."""
    rows = (
        (info.id, str(info.message_count), time_text(info.updated_at), f"{info.provider} / {info.model}", _state(info))
        for info in infos
    )
    print_table(("session", "messages", "updated", "model", "state"), rows)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table; its cells may hold anything."""
    table = _table(*columns)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    _print(table)


def part_text(part: MessageContent) -> str:
    """Return a part of a message as text."""
    match part:
        case TextContent():
            text = part.text
        case ImageContent():
            text = f"[image {part.url}]"
        case ToolCallContent():
            text = f"[call {part.tool_call_id}: {part.name}({msgspec.json.encode(part.args).decode()})]"
        case _:
            text = f"[result of {part.tool_call_id}: {part.content}]"
    return printable(text)


def _table(*columns: str, header: bool = True) -> Table:
    table = Table(box=None, show_header=header, pad_edge=False, header_style="bold")
    for column in columns:
        # An id is copied, and a time is read, as a whole.
        table.add_column(column, overflow="fold", no_wrap=column in UNBROKEN)
    return table


def _print(table: Table) -> None:
    """Print a table; elsewhere than on a terminal without the padding of the last column, which would wrap there."""
    out = console()
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def _state(session: Session | SessionInfo) -> str:
    return "active" if session.is_active else "inactive"


def _tokens(metrics: TokenMetrics) -> str:
    used = f"{metrics.context_utilization:.1%} of a window of {metrics.max_context_window}"
    return f"{metrics.total_tokens} ({metrics.prompt_tokens} prompt, {metrics.completion_tokens} completion), {used}"
