"""The requests to stop a process: signals, or the end of its standard input."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Final

from turnstream.process import end_within

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

SIGNALLED: Final = 128
"""The number that a shell adds to that of the signal that ended a process."""

Action = Callable[[], object]


def _nothing() -> None:
    """Start without an action."""


class StopRequests:
    """Hands the first request on as a call; a second signal ends the process at once, as does time."""

    def __init__(self, ending: float) -> None:
        """Listen to nothing yet; after a request the process gets so many seconds to end."""
        self._ending = ending
        self._stop: Action = _nothing
        self._before_exit: Action = _nothing
        self._requested = False
        self._signalled = False

    def listen(self, *, at_eof: bool, before_exit: Action | None = None) -> None:
        """Wait for requests from now on.

        Args:
            at_eof: the end of standard input is a request, too.
            before_exit: called before a second signal, or time, ends the process.

        """
        self._before_exit = before_exit or _nothing
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._signal, number)
        if at_eof:
            Thread(target=_await_eof, args=(loop, self._request), name="stdin", daemon=True).start()

    def hand_to(self, stop: Action) -> None:
        """Call this from now on when asked to stop; at once where a request has come already."""
        self._stop = stop
        if self._requested:
            stop()

    def _signal(self, number: int) -> None:
        if self._signalled:
            self._before_exit()
            os._exit(SIGNALLED + number)
        self._signalled = True
        self._request()

    def _request(self) -> None:
        if not self._requested:
            self._requested = True
            end_within(self._ending, before=self._before_exit)
            self._stop()


def _await_eof(loop: asyncio.AbstractEventLoop, request: Action) -> None:
    # Read in a thread, for a loop can wait for pipes but not for files, and without `sys.stdin`, whose lock would be
    # held while the interpreter ends. A standard input that is not there has ended, too.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    with suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(request)
