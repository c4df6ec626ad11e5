"""The output of the demo: panels, colours and live progress on a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import typer
from rich.box import ROUNDED
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

WIDTH: Final = 100
"""The most columns that are used."""

MARKS: Final = {True: ("✔", "bold green"), False: ("✘", "bold red")}
WORDS: Final = {True: "ok:", False: "FAILED:"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding of one act: the incident, the result of its check, and whether that is what was promised."""

    incident: str
    result: str
    passed: bool


class Count:
    """A progress that grows; the count is kept also if it is not shown."""

    def __init__(self, total: int, progress: Progress | None, task: TaskID | None) -> None:
        """Start at 0."""
        self.total = total
        self.done = 0
        self._progress = progress
        self._task = task

    def add(self, count: int = 1) -> None:
        """Advance."""
        self.done += count
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)


class Stage:
    """Prints the demo, and collects the findings of its acts."""

    def __init__(self) -> None:
        """Print to standard output."""
        self.is_rich = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self.findings: list[Finding] = []
        self._console = Console(highlight=False)
        self._console.width = min(self._console.width, WIDTH)
        if reconfigure := getattr(sys.stdout, "reconfigure", None):
            # An output in another encoding than UTF-8 has no signs for lines and ticks.
            reconfigure(errors="replace")

    def open_act(self, number: int, title: str, text: str) -> None:
        """Print the heading of an act."""
        if self.is_rich:
            head = Text(f"{number}  {title}", "bold cyan")
            self._console.print()
            self._console.print(Panel(Text(text), title=head, title_align="left", box=ROUNDED, border_style="cyan"))
        else:
            typer.echo(f"\n── {number}. {title} ──\n{text}\n")

    def say(self, text: str, style: str = "") -> None:
        """Print a line; `style` is rich's."""
        if self.is_rich:
            self._console.print(Text(text, style), soft_wrap=True)
        else:
            typer.echo(text)

    def show_turns(self, turns: Sequence[tuple[str, str]]) -> None:
        """Print the names of authors one after the other, each pair a name and its colour."""
        if self.is_rich:
            self._console.print(Text(" ").join(Text(f" {name} ", f"bold white on {colour}") for name, colour in turns))
        else:
            typer.echo(f"  {' '.join(name for name, _ in turns)}")

    def find(self, finding: Finding) -> None:
        """Print the result of an act, and keep it for the summary."""
        self.findings.append(finding)
        if self.is_rich:
            mark, style = MARKS[finding.passed]
            self._console.print(Text.assemble((f"{mark} ", style), (finding.result, "bold")))
        else:
            typer.echo(f"{WORDS[finding.passed]} {finding.result}")

    @contextmanager
    def counting(self, description: str, total: int) -> Generator[Count]:
        """Show a progress while the block runs; lines that are printed in it appear above."""
        if not self.is_rich:
            yield Count(total, None, None)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            yield Count(total, progress, progress.add_task(f"{description:<16}", total=total))

    def summarize(self) -> None:
        """Print one table of all findings."""
        if not self.is_rich:
            typer.echo("\n── Summary ──")
            for finding in self.findings:
                typer.echo(f"{WORDS[finding.passed]} {finding.incident}: {finding.result}")
            return
        table = Table(box=ROUNDED, title="Summary", title_style="bold", border_style="cyan", expand=True)
        for column in ("", "what happened", "what was checked"):
            table.add_column(column, header_style="bold")
        for finding in self.findings:
            table.add_row(Text(*MARKS[finding.passed]), Text(finding.incident), Text(finding.result))
        self._console.print()
        self._console.print(table)
