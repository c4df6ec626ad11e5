"""The start and the end of a service's process."""

import os
import sys
from collections.abc import Callable
from threading import Timer

from turnstream.logging import get_logger

log = get_logger(__name__)

ENDING = 8.0
"""Seconds after which a service that was asked to stop ends, whatever it waits for."""

ENDING_WITH_CHILDREN = 9.0
"""The same for one that waits for processes that it started: below the ten seconds after which others kill it."""


def open_standard_streams() -> None:
    """Open those of the three standard streams that are closed on the null device.

    Otherwise the next file or socket gets the number of one of them, and is taken for it: by libraries that write
    errors there, and by uvloop, which aborts the process when it closes one.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            # To be inherited by the processes that it starts, as any standard stream is.
            os.set_inheritable(opened, True)  # noqa: FBT003 - as the system call has it
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def end_within(seconds: float, *, status: int = 0, before: Callable[[], object] = lambda: None) -> None:
    """Let this process go on to its end, and end it after so many seconds if it has not come to it.

    Nothing is lost: leases expire, and the work in flight is done again by another process.

    Args:
        seconds: the time that it gets.
        status: the exit status then.
        before: called then, as to end other processes.

    """

    def end() -> None:
        log.warning("ended before all was handed over: it took too long", seconds=seconds)
        before()
        os._exit(status)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
