"""The invariants of partitions and their owners."""

from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.history import Glimpse, History, PartitionEnd
from tests.chaos.violations import Violation, Violations, about, of


def one_writer(history: History) -> Violations:
    """I4: the events of a partition are one chain, and tokens are never followed by older ones."""
    for end in history.partitions:
        yield from _one_chain(end)
    for before, after in _neighbours(history):
        if _epoch(after.token) < _epoch(before.token):
            what = f"token {after.token} was written after {before.token}"
            yield Violation("I4", what, after.partition)


def cursor_never_goes_back(history: History) -> Violations:
    """I5: within a generation neither the cursor nor the sequence of a partition ever goes back."""
    for before, after in _neighbours(history):
        if before.generation != after.generation:
            continue
        if _position(after.cursor) < _position(before.cursor):
            yield Violation("I5", f"the cursor went from {before.cursor} back to {after.cursor}", after.partition)
        if after.sequence < before.sequence:
            yield Violation("I5", f"the sequence went from {before.sequence} back to {after.sequence}", after.partition)


def all_is_settled(history: History) -> Violations:
    """I9: after the faults no command waits, nor a producer, and every partition has one owner."""
    for end in history.partitions:
        if end.backlog:
            yield Violation("I9", f"{end.backlog} commands still wait", end.number)
        if not end.lease or end.lease != end.token:
            yield Violation("I9", f"the lease is {end.lease!r}, the token {end.token!r}", end.number)
    for sent in history.sent:
        if sent.sends and not (sent.answers or sent.abandoned):
            yield of(sent, "I9", f"the producer has no answer after {sent.waited:.0f} s")


def _one_chain(end: PartitionEnd) -> Violations:
    of_type: dict[str, int] = {}
    of_session: dict[tuple[str, str], int] = {}
    for sequence, event in enumerate(end.events, start=1):
        life = (event.session_id, event.incarnation)
        links = (sequence, of_type.get(event.type, 0), of_session.get(life, 0))
        meta = event.meta
        if not meta or (meta.sequence, meta.previous_of_type, meta.previous_of_session) != links:
            yield about([event], "I4", f"the chain of events is torn: expected {links}")
            return
        of_type[event.type] = of_session[life] = sequence
    if len(end.events) != end.sequence:
        yield Violation("I4", f"{len(end.events)} events, the partition counts {end.sequence}", end.number)


def _neighbours(history: History) -> Iterator[tuple[Glimpse, Glimpse]]:
    """Yield consecutive observations of each partition, unless history was lost between them."""
    by_partition: dict[int, list[Glimpse]] = {}
    for glimpse in history.glimpses:
        by_partition.setdefault(glimpse.partition, []).append(glimpse)
    for seen in by_partition.values():
        for before, after in pairwise(seen):
            # A server that restarts on its files has another id, too, and must have kept everything.
            taken_over = history.failovers and before.replication_id != after.replication_id
            flushed = history.flushes and before.generation != after.generation
            if not (taken_over or flushed):
                yield before, after


def _epoch(token: str) -> int:
    return int(token.partition("-")[0])


def _position(stream_id: str) -> tuple[int, int]:
    time, _, number = stream_id.partition("-")
    return int(time), int(number)
