"""The requests to stop a program: signals, or the end of its standard input."""
# ruff: noqa: PLC0415 - the library is imported when a program logs, and asyncio when it runs

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Thread, Timer
from types import FrameType
from typing import TYPE_CHECKING, Final

from turnstream_service import exit_status

if TYPE_CHECKING:
    import asyncio

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

STOP_TIME: Final = 8.0
"""Seconds after which a program that was asked to stop ends, even if it still waits for something."""

STOP_TIME_WITH_CHILDREN: Final = 9.0
"""The same for a program that waits for its own processes; service managers kill a program after ten seconds."""

Action = Callable[[], object]


def _nothing() -> None:
    """Do nothing."""


def exit_on_signals() -> None:
    """End at once on a signal to stop, until `StopRequests` listens: nothing has begun that could be finished."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        os._exit(exit_status.DONE)

    for number in STOP_SIGNALS:
        signal.signal(number, leave)


class StopRequests:
    """Passes the first request on as a call; a second signal ends the process at once, as does `stop_time`."""

    def __init__(self, stop_time: float = STOP_TIME) -> None:
        """Listen to nothing yet; after a request the process gets `stop_time` seconds to end."""
        self._stop_time = stop_time
        self._stop: Action = _nothing
        self._before_exit: Action = _nothing
        self._requested = False
        self._signalled = False

    def listen(self, *, at_eof: bool = False, before_exit: Action = _nothing) -> None:
        """Accept requests from now on.

        Args:
            at_eof: the end of standard input is a request, too.
            before_exit: called before a second signal, or `stop_time`, ends the process.

        """
        import asyncio

        self._before_exit = before_exit
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._signal, number)
        if at_eof:
            Thread(target=_await_eof, args=(loop, self._request), name="stdin", daemon=True).start()

    def hand_to(self, stop: Action) -> None:
        """Call `stop` on a request from now on; at once if there was one already."""
        self._stop = stop
        if self._requested:
            stop()

    def _signal(self, number: int) -> None:
        if self._signalled:
            self._before_exit()
            os._exit(exit_status.of_signal(number))
        self._signalled = True
        self._request()

    def _request(self) -> None:
        if not self._requested:
            self._requested = True
            exit_after(self._stop_time, before=self._before_exit)
            self._stop()


def exit_after(seconds: float, *, status: int = exit_status.DONE, before: Action = _nothing) -> None:
    """Let this process end by itself, and end it if it has not done so after some seconds.

    Nothing is lost: leases expire, and another process repeats the work in flight.

    Args:
        seconds: the time until the process is ended.
        status: the exit status then.
        before: called then, for example to end other processes.

    """

    def end() -> None:
        from turnstream.logging import get_logger

        get_logger(__name__).warning("ended before all partitions were handed over", seconds=seconds)
        before()
        os._exit(status)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _await_eof(loop: "asyncio.AbstractEventLoop", request: Action) -> None:
    # Read in a thread, because a loop can wait for pipes but not for files, and without `sys.stdin`, whose lock would
    # be held while the interpreter ends. A closed standard input has ended, too.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(request)
