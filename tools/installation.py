"""Runs `pip install`, and shows its progress in one line on a terminal, or in a few lines elsewhere.

python -m tools.installation --editable '.[all]'

It needs nothing but the standard library. If pip fails, everything that it printed follows.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Final, TextIO

REDRAW_EVERY: Final = 0.2
"""Seconds between two updates of the line on a terminal."""

LINE_EVERY: Final = 20
"""Packages between two lines elsewhere."""

ERASE: Final = "\r\x1b[K"
WIDTH: Final = 78

COLLECTING: Final = re.compile(r"^\s*Collecting ([\w.-]+)")
INSTALLING: Final = re.compile(r"^\s*Installing collected packages: (.+)")


class Progress:
    """What pip is doing, as far as its lines say."""

    def __init__(self) -> None:
        """Begin before its first line."""
        self.packages = 0
        self.text = "preparing"

    def follow(self, line: str) -> bool:
        """Take a line of pip; return whether it is worth a line where nothing can be redrawn."""
        if found := COLLECTING.match(line):
            self.packages += 1
            self.text = f"{self.packages} packages found, now {found[1]}"
            return self.packages % LINE_EVERY == 0
        if found := INSTALLING.match(line):
            self.text = f"installing {found[1].count(',') + 1} packages"
            return True
        return False


def main(arguments: Sequence[str], out: TextIO = sys.stdout) -> int:
    """Install, and return pip's exit status."""
    command = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off")
    started = time.monotonic()
    output: list[str] = []
    progress = Progress()
    with subprocess.Popen(  # noqa: S603 - the words of our own Makefile
        (*command, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout  # noqa: S101 - for the type checkers: it is a pipe
        for line in _lines(pip.stdout):
            output.extend(() if line is None else (line,))
            is_step = line is not None and progress.follow(line)
            _show(out, f"  {time.monotonic() - started:3.0f} s  {progress.text}", is_step=is_step)
    if out.isatty():
        out.write(ERASE)
    out.writelines(output if pip.returncode else (f"Installed in {time.monotonic() - started:.0f} s.\n",))
    return pip.returncode


def _show(out: TextIO, text: str, *, is_step: bool) -> None:
    """Redraw the line of a terminal; elsewhere write the steps only."""
    if out.isatty():
        out.write(f"{ERASE}{text[:WIDTH]}")
    elif is_step:
        out.write(f"{text}\n")
    out.flush()


def _lines(stream: IO[str]) -> Iterator[str | None]:
    """Yield the lines of a stream, and `None` in the pauses between them."""
    lines = SimpleQueue[str | None]()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=REDRAW_EVERY)
        except Empty:
            yield None
            continue
        if line is None:
            return
        yield line


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
