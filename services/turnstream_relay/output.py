"""The output of `turnstream relay parked list`."""

from collections.abc import Iterable
from typing import Final

import msgspec

from turnstream.admin import ParkedSession
from turnstream_service.output import print_if_empty, print_json, print_table, time_text

_COLUMNS: Final = ("endpoint", "session", "events", "lost", "since", "answer", "state", "next attempt")


def print_parked(found: Iterable[tuple[str, ParkedSession]], *, as_json: bool) -> None:
    """Print parked and retried sessions, a line each."""
    if as_json:
        for endpoint, session in found:
            print_json({"endpoint": endpoint, **msgspec.to_builtins(session)})
        return
    rows = [_cells(endpoint, session) for endpoint, session in found]
    if rows:
        print_table(_COLUMNS, rows)
    else:
        print_if_empty("No session waits.", as_json=False)


def _cells(endpoint: str, session: ParkedSession) -> tuple[str, ...]:
    return (
        *(endpoint, session.session_id, str(session.events), str(session.lost), time_text(session.since)),
        f"{session.reason} ({session.attempts} ×)",
        "parked" if session.is_parked else "retried",
        time_text(session.next_try) if session.next_try else "–",
    )
