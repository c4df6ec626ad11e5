"""Reports of runs: the violations of each, and all figures as one Markdown table with a column for each site."""

from collections.abc import Mapping, Sequence

from tests.chaos.checker import INVARIANTS
from tests.chaos.history import Gone, History
from tests.chaos.members import repeats
from tests.chaos.plan import Result
from tests.chaos.producers import counts
from tests.chaos.violations import Violation

SHOWN = 20
"""Violations that are printed whole."""

Figures = Mapping[str, object]


def report(result: Result, violations: Sequence[Violation]) -> str:
    """Return the report of a run, with the seed first."""
    history = result.history
    lines = [
        f"seed {history.seed}, durability {history.durability}",
        *(f"  {name:<56}{value}" for name, value in figures(result, violations).items()),
    ]
    lines += [f"VIOLATION {violation}" for violation in violations[:SHOWN]]
    return "\n".join(lines)


def table(sites: Mapping[str, Figures]) -> str:
    """Return the figures of several runs as a table in Markdown, to be pasted as it is."""
    names: list[str] = []
    for of_site in sites.values():
        place = 0
        for name in of_site:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    rows = [["what", *sites], ["---"] * (len(sites) + 1)]
    rows += [[name, *(str(of_site.get(name, "–")) for of_site in sites.values())] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def figures(result: Result, violations: Sequence[Violation]) -> Figures:
    """Return the figures of a run."""
    history = result.history
    slowest = sorted((sent.waited for sent in history.sent), reverse=True)
    return {
        **result.faults,
        **counts(history),
        "sessions redriven, times": result.redriven,
        **_events(history),
        "longest waits for an answer, s": ", ".join(f"{seconds:.1f}" for seconds in slowest[:3]),
        "settled after the last fault, s": f"{result.settled_after:.1f}",
        **{f"{how}, s": _spread(seconds) for how, seconds in result.changes.items()},
        "workers and members that ended without a reason": ", ".join(result.died) or "none",
        "invariants checked": ", ".join(INVARIANTS),
        "violations": len(violations),
    }


def _events(history: History) -> Figures:
    losses = [one.reason for of in history.listenings for one in of.seen if isinstance(one, Gone)]
    handed = [one.gone.reason for one in history.handled if one.gone]
    return {
        "events of the history that is left": sum(len(end.events) for end in history.partitions),
        "events seen by subscribers": sum(len(of.seen) for of in history.listenings) - len(losses),
        "losses reported to subscribers": _by_reason(losses),
        "events handled by a durable subscription": len(history.handled) - len(handed),
        "of them again": repeats(history.handled),
        "losses reported to its members": _by_reason(handed),
    }


def _by_reason(reasons: Sequence[str]) -> str:
    found = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    return ", ".join(f"{count} by {reason}" for reason, count in found.items()) or "0"


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    middle = ordered[len(ordered) // 2]
    return f"{len(ordered)}: least {ordered[0]:.2f}, median {middle:.2f}, most {ordered[-1]:.2f}"
