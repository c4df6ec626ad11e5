"""The run of the coroutine of a command: the exit status, with one line for every expected failure."""

import asyncio
import signal
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Final

import typer

from turnstream.errors import (
    CommandParked,
    Rejected,
    SessionGone,
    SessionNotParked,
    StoredDataInvalid,
    SubscriptionInUse,
    SubscriptionNotFound,
    TurnstreamError,
)
from turnstream.logging import configure_logging, printable, printable_json
from turnstream.process import ENDING_WITH_CHILDREN, end_within, open_standard_streams
from turnstream.wire import encode_error
from turnstream_cli.options import LogLevel

REFUSED: Final = 1
"""The exit status of a command that was understood and refused, or has found that something is wrong with data."""


class Refused(TurnstreamError):  # noqa: N818 - a state of the command
    """The message of a command that could not do everything."""


REFUSALS: Final = (
    *(Refused, Rejected, CommandParked, SessionGone, StoredDataInvalid),
    *(SubscriptionNotFound, SubscriptionInUse, SessionNotParked),
)
"""What is understood, and another try seldom mends."""

UNAVAILABLE: Final = 2
"""The exit status where the server, a setting or the deployment does not fit."""

TERMINATED: Final = 128 + signal.SIGTERM


def run(
    work: Coroutine[Any, Any, None], log_level: LogLevel, *, until_stopped: bool = False, as_json: bool = False
) -> None:
    """Run a command; ends by `typer.Exit` where it fails, with a line on standard error: under `--json` it is JSON.

    Args:
        work: the work of the command; Ctrl-C and SIGTERM cancel it, so that it can clean up.
        log_level: the lowest level that is logged.
        until_stopped: to be stopped is how it is meant to end.
        as_json: print errors as JSON.

    """
    open_standard_streams()
    configure_logging(log_level)
    try:
        with reported(as_json=as_json):
            asyncio.run(_terminable(work, 0 if until_stopped else TERMINATED))
    except asyncio.CancelledError:
        raise typer.Exit(0 if until_stopped else TERMINATED) from None
    except KeyboardInterrupt:
        if not until_stopped:
            raise


@contextmanager
def reported(*, as_json: bool = False) -> Generator[None]:
    """Print an expected failure in one line, and end by `typer.Exit`."""
    try:
        yield
    except TurnstreamError as error:
        typer.echo(printable_json(encode_error(error)) if as_json else f"error: {printable(str(error))}", err=True)
        raise typer.Exit(REFUSED if isinstance(error, REFUSALS) else UNAVAILABLE) from None


async def _terminable(work: Coroutine[Any, Any, None], status: int) -> None:
    """Let SIGTERM do what Ctrl-C does; with this exit status where that takes too long."""
    task = asyncio.ensure_future(work)

    def stop() -> None:
        end_within(ENDING_WITH_CHILDREN, status=status)
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await task
