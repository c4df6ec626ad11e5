"""The command `turnstream-worker`: reads its arguments before it imports what takes time."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from turnstream_worker.arguments import URL_VARIABLE, parse
from turnstream_worker.stopping import STOP_SIGNALS


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a worker, or several, until stopped; exits with the status that `--help` explains."""
    for number in STOP_SIGNALS:
        signal.signal(number, _leave)
    options = parse(arguments)
    if options.redis_url:
        # By the environment it reaches the processes that this one starts, and no list of processes shows it.
        os.environ[URL_VARIABLE] = options.redis_url

    from turnstream_worker.running import run  # noqa: PLC0415 - takes half a second: `--help` need not wait for it

    sys.exit(run(options))


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """End at once: nothing has begun, so nothing is to be finished."""
    os._exit(0)
