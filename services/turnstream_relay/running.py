"""`turnstream relay run`: signals and settings around the relay."""

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from turnstream import ConfigurationError, Turnstream
from turnstream.telemetry import get_logger
from turnstream_relay.configuration import load_configuration
from turnstream_relay.relay import Relay
from turnstream_relay.reporting import report

log = get_logger(__name__)


async def run_relay(redis_url: str | None, file: Path, every: float) -> None:
    """Deliver until told to stop; on SIGHUP go on by what the file says then.

    Raises:
        ConfigurationError: the file does not fit, or the server.
        Unavailable: no server answers at the start; one that goes away later is waited for.

    """
    configuration = load_configuration(file)
    connecting = asyncio.current_task()
    if connecting:
        _on_stop(connecting.cancel)
    async with Turnstream.connect(redis_url) as ts:
        relay = Relay(ts, configuration)
        _on_stop(relay.stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, partial(_reload, relay, file))
        log.info("relay started", endpoints=sorted(configuration.endpoints))
        reporting = asyncio.create_task(report(ts, relay, every))
        try:
            await relay.run()
        finally:
            reporting.cancel()
        log.info("relay stopped")


def _reload(relay: Relay, file: Path) -> None:
    try:
        configuration = load_configuration(file)
    except ConfigurationError as error:
        log.error("configuration not read again, what was read before stays", error=str(error))  # noqa: TRY400
        return
    relay.configure(configuration)
    log.info("configuration read again", endpoints=sorted(configuration.endpoints))


def _on_stop(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        loop.add_signal_handler(number, os._exit, 128 + number)  # the next one
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
