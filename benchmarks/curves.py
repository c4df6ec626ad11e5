"""Draw the figures of `growth.json`: `python -m benchmarks.curves growth.json FOLDER`, in the plots' environment."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.peers.plots import OTHERS, OURS, save

PANES: Final = (
    ("sessions", "sessions", "µs a command", {"appended_per_second": "append to any of them (inverse rate)"}),
    ("sessions", "sessions", "µs", {"last20_us": "read the last 20", "page_us": "list a page of 100"}),
    (
        "messages",
        "messages in the session",
        "µs",
        {"append_us": "append, one at a time", "last20_us": "read the last 20"},
    ),
    ("messages", "messages in the session", "bytes a message", {"message_bytes": "memory"}),
)
"""The contents of each pane: the part of the figures, the axes, and the lines."""


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw a pane for each kind of growth, on logarithmic axes."""
    figure, panes = plt.subplots(1, len(PANES), figsize=(16, 4))
    for pane, (part, across, up, lines) in zip(panes, PANES, strict=True):
        counts = [int(count) for count in report[part]]
        for colour, (name, label) in zip((OURS, OTHERS), lines.items(), strict=False):
            values = [figures[name] for figures in report[part].values()]
            shown = [1e6 / value for value in values] if name.endswith("per_second") else values
            pane.loglog(counts, shown, marker="o", color=colour, label=label)
        pane.set_ylim(bottom=1)
        pane.set_xlabel(across)
        pane.set_ylabel(up)
        pane.legend(fontsize="small")
    save(figure, path)


def main() -> None:
    """Draw."""
    mpl.use("Agg")
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]) / "curves.png")


if __name__ == "__main__":
    main()
