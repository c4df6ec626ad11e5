"""Violations that a check of a history finds."""

from collections.abc import Iterator, Sequence

import msgspec
from tests.chaos.history import Sent, cause_of, place_of

from turnstream.domain.events import AnyEvent


class Violation(msgspec.Struct, frozen=True):
    """An invariant that does not hold, and the place of the violation."""

    invariant: str
    what: str
    partition: int | None = None
    session_id: str | None = None
    command_ids: Sequence[str] = ()
    stream_ids: Sequence[str] = ()

    def __str__(self) -> str:
        places = {
            "partition": self.partition,
            "session": self.session_id,
            "commands": ", ".join(self.command_ids) or None,
            "events": ", ".join(self.stream_ids) or None,
        }
        where = "; ".join(f"{name} {value}" for name, value in places.items() if value is not None)
        return f"{self.invariant}: {self.what} ({where})" if where else f"{self.invariant}: {self.what}"


Violations = Iterator[Violation]


def about(events: Sequence[AnyEvent], invariant: str, what: str) -> Violation:
    """Say it of events, and of the commands that caused them."""
    first = events[0] if events else None
    partition = first.meta.partition if first and first.meta else None
    causes = list(dict.fromkeys(map(cause_of, events)))
    return Violation(
        invariant, what, partition, first.session_id if first else None, causes, [place_of(e) for e in events]
    )


def of(sent: Sent, invariant: str, what: str) -> Violation:
    """Say it of a command."""
    return Violation(invariant, what, session_id=sent.session_id, command_ids=[sent.command_id])
