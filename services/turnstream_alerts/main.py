"""The command `turnstream-alerts`: arguments, signals and exit status around a durable subscription."""

import argparse
import asyncio
import math
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from turnstream import Turnstream, Unavailable
from turnstream.errors import ConfigurationError
from turnstream.events import ContextWindowCritical
from turnstream.logging import configure_logging, printable
from turnstream.process import ENDING, end_within, open_standard_streams
from turnstream_alerts.alerts import Alerts

_DESCRIPTION = "Log each session whose context window gets full, and count them by model. An example of a subscriber."

_EPILOG = """SIGTERM and SIGINT end it when the events in hand are handled; a second one at once. Exit status: 0 told to
stop, 2 no server answers at the start or a setting does not fit; a server that goes away later is waited for."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until stopped."""
    parser = argparse.ArgumentParser(prog="turnstream-alerts", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--redis-url", metavar="URL", help="where the server is; TURNSTREAM_REDIS_URL if not given")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--every", metavar="SECONDS", type=float, default=60.0, help="between two logs of the counts")
    options = parser.parse_args(arguments)
    if not 0 < options.every < math.inf:
        parser.error(f"--every takes seconds above 0, not {options.every:g}")
    open_standard_streams()
    configure_logging(options.log_level)
    try:
        with suppress(asyncio.CancelledError):
            asyncio.run(watch(options.redis_url, options.every))
    except (ConfigurationError, Unavailable) as error:
        parser.exit(2, f"error: {printable(str(error))}\n")


async def watch(redis_url: str | None, every: float) -> None:
    """Handle this process's share of the crossings; other processes of the same name have the rest."""
    connecting = asyncio.current_task()
    if connecting:
        _on_signals(connecting.cancel)
    async with Turnstream.connect(redis_url) as ts:
        alerts = Alerts(ts)
        subscription = ts.consumer("alerts", ContextWindowCritical)
        _on_signals(subscription.stop)
        telling = asyncio.create_task(_tell(alerts, every))
        try:
            await subscription.run(alerts.handle)
        finally:
            telling.cancel()
            alerts.tell()


async def _tell(alerts: Alerts, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        alerts.tell()


def _on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        loop.add_signal_handler(number, os._exit, 128 + number)  # the next one
        end_within(ENDING)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
