"""The output of the commands: a table for people, or JSON lines."""

import sys
from collections.abc import Iterable
from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnstream import logging
from turnstream.admin import ParkedSession

UNBOUNDED: Final = 10_000
"""The width of an output that is not a terminal: lines are not wrapped."""

_COLUMNS: Final = ("endpoint", "session", "events", "lost", "since", "answer", "state", "next try")


def printable(text: str) -> str:
    """Return text of one line that shows as it is, and steers no terminal."""
    return logging.printable(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def print_parked(found: Iterable[tuple[str, ParkedSession]], *, as_json: bool) -> None:
    """Print parked sessions, a line each."""
    if as_json:
        for endpoint, session in found:
            encoded = msgspec.json.encode({"endpoint": endpoint, **msgspec.to_builtins(session)})
            typer.echo(logging.printable_json(encoded))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for endpoint, s in found:
        answer = f"{s.reason} ({s.attempts} ×)"
        state, next_try = (
            "parked" if s.is_parked else "retried",
            s.next_try.isoformat(" ", "seconds") if s.next_try else "–",
        )
        since = s.since.isoformat(" ", "seconds")
        cells = (endpoint, s.session_id, str(s.events), str(s.lost), since, answer, state, next_try)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(highlight=False, width=None if sys.stdout.isatty() else UNBOUNDED).print(table)
