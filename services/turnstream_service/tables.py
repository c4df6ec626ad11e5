"""Output for people: tables and times, on a terminal or in a pipe."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnstream.logging import printable

UNBOUNDED: Final = 10_000
"""The width of an output that is not a terminal: nothing is wrapped."""

UNBROKEN: Final = {"session", "id", "since", "sent", "updated", "next attempt"}
"""The columns of ids and times."""


def console() -> Console:
    """Return what prints to standard output: in colours on a terminal, plain and unwrapped elsewhere."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNBOUNDED)


def time_text(time: datetime, precision: str = "seconds") -> str:
    """Return a time as all commands print it: in UTC, as `2026-01-02T03:04:05Z`; `precision` is that of isoformat."""
    return time.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table; its cells may hold anything."""
    table = _table(*columns)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    _print(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, a line each; leaves out empty ones."""
    table = _table("", "", header=False)
    for name, value in fields:
        if value:
            table.add_row(Text(name, "bold"), Text(printable(value)))
    _print(table)


def print_if_empty(text: str, *, as_json: bool) -> None:
    """Say on standard error that a list is empty; JSON lines say so by their number."""
    if not as_json:
        typer.echo(text, err=True)


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
