"""The output of the commands: a table for people, or JSON lines."""

from collections.abc import Iterable
from typing import Final

import msgspec
import typer

from turnstream import logging
from turnstream.admin import ParkedSession
from turnstream_service.tables import print_if_empty, print_table, time_text

COLUMNS: Final = ("endpoint", "session", "events", "lost", "since", "answer", "state", "next attempt")


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
    rows = [tuple(map(printable, _cells(endpoint, session))) for endpoint, session in found]
    if rows:
        print_table(COLUMNS, rows)
    else:
        print_if_empty("No session waits.", as_json=False)


def _cells(endpoint: str, session: ParkedSession) -> tuple[str, ...]:
    return (
        *(endpoint, session.session_id, str(session.events), str(session.lost), time_text(session.since)),
        f"{session.reason} ({session.attempts} ×)",
        "parked" if session.is_parked else "retried",
        time_text(session.next_try) if session.next_try else "–",
    )
