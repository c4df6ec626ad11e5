"""The command `turnstream-worker`: reads its arguments before it imports what takes time."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from turnstream_service.arguments import URL_VARIABLE
from turnstream_service.stop_requests import exit_on_signals
from turnstream_worker.arguments import parse


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a worker, or several, until stopped; exits with the status that `--help` explains."""
    exit_on_signals()
    options = parse(arguments)
    if options.redis_url:
        # By the environment it reaches the processes that this one starts, and no list of processes shows it.
        os.environ[URL_VARIABLE] = options.redis_url

    from turnstream_worker.program import run  # noqa: PLC0415 - imports the library: `--help` need not wait for it

    sys.exit(run(options))
