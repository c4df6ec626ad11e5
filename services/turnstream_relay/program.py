"""`turnstream relay run`: signals and settings around the relay."""

import asyncio
import signal
from pathlib import Path

from turnstream import Turnstream
from turnstream.client.subscriptions.tasks import cancel_and_wait
from turnstream.errors import ConfigurationError
from turnstream.logging import get_logger
from turnstream_relay.configuration import load_configuration
from turnstream_relay.relay import Relay
from turnstream_relay.report import report
from turnstream_service.stop_requests import StopRequests

log = get_logger(__name__)


async def run_relay(redis_url: str | None, file: Path, every: float) -> None:
    """Deliver until stopped; on SIGHUP read the file again.

    Raises:
        ConfigurationError: the file does not fit, or the server.
        Unavailable: no server answers at the start; one that goes away later is waited for.

    """
    configuration = load_configuration(file)
    hung_up = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    requests = StopRequests()
    if connecting := asyncio.current_task():
        requests.hand_to(connecting.cancel)
    requests.listen()
    async with Turnstream.connect(redis_url) as ts:
        relay = Relay(ts, configuration)
        requests.hand_to(relay.stop)
        log.info("relay started", endpoints=sorted(configuration.endpoints))
        background = [asyncio.create_task(each) for each in (report(ts, relay, every), _reload(relay, file, hung_up))]
        for task in background:
            # They never end unless by a bug; then their absence would not be noticed.
            task.add_done_callback(lambda _: relay.stop())
        try:
            await relay.run()
        finally:
            await cancel_and_wait(background)
        for task in background:
            if not task.cancelled():
                task.result()
        log.info("relay stopped")


async def _reload(relay: Relay, file: Path, hung_up: asyncio.Event) -> None:
    while True:
        await hung_up.wait()
        hung_up.clear()
        try:
            configuration = load_configuration(file)
        except ConfigurationError as error:
            log.error("configuration not read again, what was read before stays", error=str(error))  # noqa: TRY400
        else:
            relay.configure(configuration)
            log.info("configuration read again", endpoints=sorted(configuration.endpoints))
