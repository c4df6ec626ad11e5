"""Resolves requirements with uv, without installing anything."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.coinstall.comparison import Versions, versions_in

ATTEMPTS = 4
PAUSE = 5.0
"""Seconds before the second attempt; each further one waits twice as long."""

PATIENCE = 300.0
"""Seconds that one attempt may take."""

UNSOLVABLE = "No solution found"
"""The message of uv for contradictory requirements: no other attempt ends otherwise."""


class UnsolvableError(Exception):
    """No versions fit the requirements."""


class RegistryError(Exception):
    """The resolver did not get an answer, several times in a row."""


class Resolver:
    """Runs `uv pip compile` for the Python that runs this."""

    def __init__(self, uv: Path, pause: float = PAUSE) -> None:
        """Use a uv; wait `pause` seconds before the second attempt."""
        self._uv = uv
        self._pause = pause

    def resolve(self, requirements: Sequence[str], *options: str) -> Versions:
        """Return the newest versions that fit.

        Args:
            requirements: as pip takes them.
            options: further sources of requirements, in uv's words.

        Raises:
            UnsolvableError: no versions fit.
            RegistryError: no attempt got an answer.

        """
        command: tuple[str | Path, ...] = (
            *(self._uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--color", "never"),
            *("--python", sys.executable, *options, "-"),
        )
        reason = ""
        for attempt in range(ATTEMPTS):
            time.sleep(self._pause * 2 ** (attempt - 1) if attempt else 0)
            try:
                done = subprocess.run(
                    command,
                    input="\n".join(requirements),
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                reason = f"no answer within {PATIENCE:g} s"
                continue
            if done.returncode == 0:
                return versions_in(done.stdout)
            reason = done.stderr.strip()
            if UNSOLVABLE in reason:
                raise UnsolvableError(reason)
        raise RegistryError(reason)
