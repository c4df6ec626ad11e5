"""A server process that never outlives its parent, not even a parent that is killed.

    parent ── holds the write end of a pipe (close-on-exec: its other children do not get it)
      ├── watchdog   a shell that reads the pipe: however the parent ends, the pipe ends with it
      └── server     in a separate session, so that Ctrl-C reaches the parent only, which drains first

`PR_SET_PDEATHSIG` would be for Linux only, and fires when the *thread* that started the server ends. A child that is
forked without an exec shares the pipe: the server then lives as long as the longer-lived of the two.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, Final, Self

_SHELL: Final = ("/bin/sh", "-c")

# The server's id goes down the pipe before the server runs, so the watchdog knows every server there is.
_LAUNCH: Final = 'echo $$; exec "$@" >&2'

# A second line means that the server is gone and its id may be another's; the pipe's end, that it is to be killed,
# with the children that write its files (its process group). One that is dying may still write a file: hence the second
# attempt to remove the directory.
_WATCH: Final = (
    'read -r server; read -r _ || kill -s KILL -- "-$server"; '
    'test -z "$1" || rm -rf -- "$1" 2>&- || { sleep 1; rm -rf -- "$1"; }'
)

# The server in the wheel uses the C library's allocator; others, with one of their own, do not read this. A larger
# cache of small pieces takes an eighth off the server's time a command.
_ALLOCATOR: Final = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=10000:glibc.malloc.tcache_max=8192"}


@dataclass(frozen=True, slots=True)
class GuardedProcess:
    """A running server and the watchdog that ends it with its parent."""

    server: Popen[bytes]
    watchdog: Popen[bytes]

    @classmethod
    def start(cls, command: Sequence[str], directory: Path, *, lock: IO[bytes], log: IO[bytes], scratch: bool) -> Self:
        """Run `command` in `directory`, which goes with the server when it is `scratch`.

        The server inherits `lock` as its standard input, so the lock is held as long as the server lives, and writes to
        `log` what it says before it has a log file. Raises OSError when a process cannot be made.
        """
        # S603: no word of these command lines is read by a shell; the shells get them as arguments.
        guard = (*_SHELL, _WATCH, "watchdog", str(directory) if scratch else "")
        watchdog = Popen(guard, cwd="/", stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)  # noqa: S603
        try:
            launch = (*_SHELL, _LAUNCH, "launch", *command)
            server = Popen(  # noqa: S603
                launch,
                cwd=directory,
                stdin=lock,
                stdout=watchdog.stdin,
                stderr=log,
                start_new_session=True,
                env=_ALLOCATOR | dict(os.environ),
            )
        except BaseException:
            watchdog.communicate()
            raise
        return cls(server, watchdog)

    def stop(self, grace: float) -> None:
        """End the server and the watchdog, wait for both, and remove the directory when it is scratch.

        `grace` is the time in seconds that the server gets to write its files; 0 kills it at once.
        """
        if grace:
            self.server.terminate()
            with suppress(TimeoutExpired):
                self.server.wait(grace)
        gone = self.server.poll() is not None
        self.watchdog.communicate(b"\n" if gone else None)
        # In case the watchdog was killed.
        self.server.kill()
        self.server.wait()
