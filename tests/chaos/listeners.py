"""The invariant of plain and durable subscribers: every event arrives, or its loss is reported."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace
from tests.chaos.accounts import Account, Identity
from tests.chaos.history import Gone, Handled, History, Listening, PartitionEnd, Seen
from tests.chaos.members import in_lineage, out_of_order
from tests.chaos.violations import Violation, Violations

from turnstream.domain.events import AnyEvent


def no_gap_in_silence(history: History) -> Violations:
    """I7: a subscriber receives every event after its opening, once and in order, or a report that it is lost.

    This includes events that it received and that were rolled back: their loss was reported after them.
    """
    for listening in history.listenings:
        if listening.failed:
            yield Violation("I7", f"{listening.subscriber} was ended: {listening.failed}")
        for end in history.partitions:
            account = _account(listening, end.number)
            difference = account.repeated or account.differs_from(
                _identities(e for e in end.events if listening.is_for(e))
            )
            if difference:
                yield Violation("I7", f"{listening.subscriber} received {difference}", end.number)


def all_is_handled_in_order(history: History) -> Violations:
    """I7 of a durable subscription: each event is handled, a session's in order, unless its loss was reported.

    This includes events that were handled and rolled back.
    """
    for end in history.partitions:
        handled = in_lineage(one for one in history.handled if one.partition == end.number)
        what = Account(_in_time(handled, end), 0).differs_from(_identities(end.events))
        if what:
            yield Violation("I7", f"the members of the durable subscription handled {what}", end.number)
        for session_id in out_of_order(handled, end.events):
            what = "its events were handled by a durable subscription in another order"
            yield Violation("I7", what, end.number, session_id)


def _account(listening: Listening, partition: int) -> Account:
    seen = (one for one in listening.seen if one.partition == partition)
    return Account(seen, listening.heads.get(partition, 0))


def _in_time(handled: Sequence[Handled], end: PartitionEnd) -> Iterator[Seen | Gone]:
    """Yield the handled events, except for one that a replaced consumer was handling when another got a report.

    A consumer that was paused may find that events were trimmed which others have handled since: nothing is lost.
    """
    happened = set(_identities(end.events))
    known: set[str] = set()
    ended: dict[str, str] = {}
    furthest: dict[tuple[str, str], int] = {}
    for one in handled:
        if one.gone:
            own = furthest.get((one.member, one.gone.generation), 0)
            others = max((n for (_, there), n in furthest.items() if there == one.gone.generation), default=0)
            late = one.gone.reason == "retention" and own <= one.gone.seen < others
            yield replace(one.gone, seen=others) if late else one.gone
            if one.gone.reason != "retention":
                ended |= dict.fromkeys(known, one.member)
        elif (one.sequence, one.event_id) in happened or ended.get(one.generation, one.member) == one.member:
            yield Seen(one.partition, one.sequence, one.event_id)
        known.add(one.generation)
        furthest[one.member, one.generation] = max(one.sequence, furthest.get((one.member, one.generation), 0))


def _identities(events: Iterable[AnyEvent]) -> list[Identity]:
    return [(event.meta.sequence, event.meta.event_id) for event in events if event.meta]
