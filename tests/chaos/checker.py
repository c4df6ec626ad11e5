"""Decides the invariants I1 to I11 (design §7) over the history of a run; each is one small function.

It claims only what a history can show: of I4, these are the consequences (a stale writer would break the chains). If
history was lost, the surviving one is judged, including the events that have been trimmed since.
"""

from collections.abc import Callable

from tests.chaos import effects, listeners, owners
from tests.chaos.history import History
from tests.chaos.violations import Violation, Violations

INVARIANTS: dict[str, Callable[[History], Violations]] = {
    "I1": effects.at_most_one_effect,
    "I2": effects.state_is_the_fold,
    "I3": effects.in_order,
    "I4": owners.one_writer,
    "I5": owners.cursor_never_goes_back,
    "I6": effects.nothing_lost,
    "I7": listeners.no_gap_in_silence,
    "I7 (durable)": listeners.all_is_handled_in_order,
    "I8": effects.success_survives,
    "I9": owners.all_is_settled,
    "I10": effects.other_payload_is_refused,
    "I11": effects.poison_stays_in_its_session,
}


def check(history: History) -> list[Violation]:
    """Return every violation of the run."""
    return [violation for invariant in INVARIANTS.values() for violation in invariant(history)]
