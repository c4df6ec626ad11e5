"""The output of commands: tables for people, or JSON lines; standard output holds nothing else.

Only a terminal needs rich, for colours and for the width of columns, so that only then it is imported.
"""
# ruff: noqa: PLC0415 - see above

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from unicodedata import combining, east_asian_width

import msgspec
import typer

from turnstream.logging import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console

UNBOUNDED: Final = 10_000
"""The width of an output that is not a terminal: nothing is wrapped."""

UNBROKEN: Final = {"session", "id", "since", "sent", "updated", "next attempt"}
"""The columns of ids and times, which are copied or read as a whole."""

COLUMN_GAP: Final = "  "


def console() -> "Console":
    """Return what prints to standard output: in colours on a terminal, plain and unwrapped elsewhere."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else UNBOUNDED)


def printable_line(text: str) -> str:
    """Return a text as one line that can neither control a terminal nor begin another line."""
    return printable(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def time_text(time: datetime, precision: str = "seconds") -> str:
    """Return a time as all commands print it: in UTC, as `2026-01-02T03:04:05Z`; `precision` is that of isoformat."""
    return time.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever msgspec can encode
    """Print one line of JSON."""
    typer.echo(printable_json(msgspec.json.encode(value)))


def print_table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table with a heading; its cells may hold any text."""
    _print_rows([[printable_line(cell) for cell in row] for row in rows], columns)


def print_fields(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values, a line each; leaves out empty ones."""
    _print_rows([[name, printable_line(value)] for name, value in rows if value], None)


def print_if_empty(text: str, *, as_json: bool) -> None:
    """Say on standard error that a list is empty; JSON lines say so by their number."""
    if not as_json:
        typer.echo(text, err=True)


def print_styled(*parts: str | tuple[str, str]) -> None:
    """Print texts as one line; a pair is a text and its style on a terminal."""
    if not sys.stdout.isatty():
        typer.echo("".join(part if isinstance(part, str) else part[0] for part in parts))
        return
    from rich.text import Text

    console().print(Text.assemble(*parts), soft_wrap=True)


def _print_rows(rows: Sequence[Sequence[str]], header: Sequence[str] | None) -> None:
    if sys.stdout.isatty():
        _print_in_colours(rows, header)
        return
    lines = [*([header] if header else []), *rows]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        typer.echo(COLUMN_GAP.join(cells).rstrip())


def _print_in_colours(rows: Sequence[Sequence[str]], header: Sequence[str] | None) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=header is not None, pad_edge=False, header_style="bold")
    for column in header or ("", ""):
        table.add_column(column, overflow="fold", no_wrap=column in UNBROKEN, style="" if header else None)
    for row in rows:
        table.add_row(*(Text(cell, "" if header or index else "bold") for index, cell in enumerate(row)))
    console().print(table)


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)
