"""Draw the figures of `peers.json`: `python -m benchmarks.peers.plots peers.json FOLDER`, in the plots' environment."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.peers.report import LENGTHS, Table

OURS: Final = "#c2410c"
OTHERS: Final = "#64748b"
DOTS_PER_INCH: Final = 110


def colour(name: str) -> str:
    """Return the colour of a contender's bar."""
    return OURS if name.startswith("turnstream") else OTHERS


def throughput(report: dict[str, Any], folder: Path) -> None:
    """Draw a bar for each worker system, and one for the limit."""
    table, limit = Table(report, "queues"), Table(report, "limit")
    rates = {name: table.typical(name, "end_to_end", "applied_per_second") or 0 for name in table.rounds}
    rates |= {name: limit.typical(name, "commands_per_second") or 0 for name in limit.rounds}
    names = sorted(rates, key=rates.__getitem__)
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(names) + 1.2))
    bars = axes.barh(names, [rates[name] for name in names], color=[colour(name) for name in names])
    axes.bar_label(bars, labels=[f"{rates[name]:,.0f}" for name in names], padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("messages applied a second, one worker process, end to end")
    save(figure, folder / "throughput.png")


def latency(report: dict[str, Any], folder: Path) -> None:
    """Draw the distribution of the time from queueing a task to its event."""
    table = Table(report, "queues")
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, rounds in table.rounds.items():
        values = sorted(value for figures in rounds for value in figures["latency"]["values_us"])
        share = [n / (len(values) - 1) for n in range(len(values))]
        axes.plot(values, share, label=name, linewidth=2.5 if name == "turnstream" else 1)
    axes.set_xscale("log")
    axes.set_xlabel("from queueing one task to its event, µs")
    axes.set_ylabel("share of the tasks")
    axes.legend(fontsize="small")
    save(figure, folder / "latency.png")


def growth(report: dict[str, Any], folder: Path) -> None:
    """Draw what an append, the last 20 and all messages cost against the length of the session."""
    table = Table(report, "stores")
    figure, panes = plt.subplots(1, 3, figsize=(13, 4.5), sharey=True)
    for pane, what in zip(panes, ("append", "last20", "all"), strict=True):
        for name in table.rounds:
            points = [(int(n), table.typical(name, "lengths", n, what, "p50_us")) for n in LENGTHS]
            known = [(length, value) for length, value in points if value is not None]
            style = {"linewidth": 2.5} if name.startswith("turnstream") else {"linewidth": 1}
            pane.loglog(*zip(*known, strict=True), marker="o", markersize=3, label=name, **style)
        pane.set_title({"append": "append one", "last20": "read the last 20", "all": "read all"}[what])
        pane.set_xlabel("messages in the session")
    panes[0].set_ylabel("median, µs")
    panes[-1].legend(fontsize="x-small", loc="lower right")
    save(figure, folder / "length.png")


def save(figure: Any, path: Path) -> None:  # noqa: ANN401 - matplotlib's figure
    """Write a picture."""
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def main() -> None:
    """Draw all plots of a run."""
    report = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    mpl.use("Agg")
    for draw, kind in ((throughput, "queues"), (latency, "queues"), (growth, "stores")):
        if Table(report, kind).rounds:
            draw(report, folder)


if __name__ == "__main__":
    main()
