"""The words with which this program was started, for commands that a reader pastes."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

NAME: Final = "turnstream"


def program_name() -> str:
    """Return what to type for this program in the current directory, as `turnstream` or `.venv/bin/turnstream`."""
    started = Path(sys.argv[0])
    if started.name != NAME:
        return f"{_typed(Path(sys.executable))} -m turnstream_cli"
    found = shutil.which(NAME)
    if found and started.exists() and started.samefile(found):
        return NAME
    return _typed(started)


def _typed(path: Path) -> str:
    """Return a path as it is typed: relative if it is below the current directory."""
    absolute = path.absolute()
    here = Path.cwd()
    # An interpreter of a virtual environment is a link, which is not to be resolved.
    return shlex.quote(str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute))
