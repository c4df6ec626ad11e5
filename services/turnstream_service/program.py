"""The run of a program: its streams and logs, a command's coroutine, and one line for every expected failure."""
# ruff: noqa: PLC0415 - the library is imported when a command runs

import asyncio
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from turnstream_service import exit_status
from turnstream_service.stop_requests import STOP_TIME_WITH_CHILDREN, exit_after

if TYPE_CHECKING:
    from turnstream.errors import TurnstreamError

TERMINATED: Final = exit_status.of_signal(signal.SIGTERM)

OUTPUT_FAILURES: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""The errors of an output that takes no more; a closed pipe is the reader's choice and no error."""


GARBAGE_THRESHOLD: Final = 50_000
"""Allocations between two collections of the youngest objects."""


def start(log_level: str) -> None:
    """Prepare the standard streams and the logs of this process."""
    from turnstream.logging import configure_logging

    open_standard_streams()
    configure_logging(log_level)


def run(work: Coroutine[Any, Any, None], log_level: str, *, until_stopped: bool = False, as_json: bool = False) -> None:
    """Run a command; ends the program if it fails, with a line on standard error, which is JSON under `--json`.

    Args:
        work: the work of the command; Ctrl-C and SIGTERM cancel it, so that it can clean up.
        log_level: the lowest level that is logged.
        until_stopped: the command ends only when it is stopped, so that stopping it is no failure.
        as_json: print errors as JSON.

    Raises:
        SystemExit: the command failed, or was stopped.

    """
    start(log_level)
    stopped_status = exit_status.DONE if until_stopped else TERMINATED
    try:
        with reported(as_json=as_json):
            asyncio.run(_terminable(work, stopped_status))
    except asyncio.CancelledError:
        raise SystemExit(stopped_status) from None
    except KeyboardInterrupt:
        if not until_stopped:
            raise


@contextmanager
def reported(*, as_json: bool = False) -> Generator[None]:
    """Print an expected failure in one line, and end the program.

    Raises:
        SystemExit: an error of the library was raised in the block.

    """
    from turnstream.errors import TurnstreamError

    try:
        yield
    except TurnstreamError as error:
        print_error(error, as_json=as_json)
        raise SystemExit(exit_status.of_error(error)) from None


def print_error(error: "TurnstreamError", *, as_json: bool = False) -> None:
    """Print an error of the library on standard error: `error: ` and its text, or a line of JSON with its fields."""
    from turnstream.logging import printable, printable_json
    from turnstream.wire import encode_error

    sys.stderr.write(f"{printable_json(encode_error(error))}\n" if as_json else f"error: {printable(str(error))}\n")


def end_with_output(main: Callable[[], object]) -> None:
    """Call a main function, then write what it printed; one line reports an output that takes no more.

    Raises:
        SystemExit: as the main function, or with 2 if its output cannot be written.

    """
    # With the default, a short command spends a tenth of its time in collections while it imports modules.
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        try:
            main()
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(exit_status.REFUSED) from None
    except OSError as error:
        if error.errno not in OUTPUT_FAILURES or error.filename is not None:
            raise
        _drop_output()
        sys.stderr.write(f"error: The output cannot be written: {error.strerror}\n")
        raise SystemExit(exit_status.UNUSABLE) from None


def _drop_output() -> None:
    """Send what is left to the null device: the interpreter would try to write it once more, and print a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


async def _terminable(work: Coroutine[Any, Any, None], status: int) -> None:
    """Let SIGTERM cancel the work, as Ctrl-C does; if that takes too long, end with this exit status."""
    task = asyncio.ensure_future(work)

    def stop() -> None:
        exit_after(STOP_TIME_WITH_CHILDREN, status=status)
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await task
