"""A contender's worker: a process that is started and stopped as its operator would."""

import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

STOP_TIMEOUT: Final = 30.0
LOG_BYTES: Final = 4_000


class WorkerProcess:
    """A running worker; its output is shown only when it ends unasked."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it."""
        self._command = command
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the worker is stopped
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)  # noqa: S603

    def check(self) -> None:
        """Raise RuntimeError if it has ended, with the last of what it printed."""
        if self._process.poll() is not None:
            raise RuntimeError(f"The worker ended with {self._process.returncode}: {self._command}\n{self._printed()}")

    def stop(self) -> None:
        """Stop it by SIGTERM, by SIGKILL if it does not heed that."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        """Return the worker, which runs already."""
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Stop it; when something else failed first, show what it printed."""
        if error is not None:
            error.add_note(f"The worker printed:\n{self._printed()}")
        self.stop()

    def _printed(self) -> str:
        size = self._log.seek(0, 2)
        self._log.seek(max(0, size - LOG_BYTES))
        return self._log.read().decode(errors="replace")
