"""All deliveries of a process: begun, ended and begun again as the configuration says."""

import asyncio
from collections.abc import Iterator
from typing import Final

from turnstream import Turnstream
from turnstream.telemetry import get_logger
from turnstream_relay.configuration import Configuration
from turnstream_relay.delivery import Delivery

log = get_logger(__name__)

DRAIN: Final = 25.0
"""Seconds that attempts in hand get when the relay is stopped; what they delivered may come again."""


class Relay:
    """Delivers to all endpoints; each by itself."""

    def __init__(self, ts: Turnstream, configuration: Configuration) -> None:
        """Read and write by this client."""
        self._ts = ts
        self._wanted = configuration
        self._running: dict[Delivery, asyncio.Task[None]] = {}
        self._bell = asyncio.Event()
        self._stopping = False

    def __iter__(self) -> Iterator[Delivery]:
        """Go through the deliveries."""
        return iter(self._running)

    def stop(self) -> None:
        """Finish the attempts in hand, and end `run`."""
        self._stopping = True
        self._bell.set()

    def configure(self, configuration: Configuration) -> None:
        """Deliver as this says from now on; an endpoint that stays as it was is not interrupted, unless it is gone."""
        self._wanted = configuration
        self._bell.set()

    async def run(self) -> None:
        """Deliver until stopped.

        Raises:
            ConfigurationError: the server does not permit what is needed.

        """
        try:
            while not self._stopping:
                self._bell.clear()
                await self._end([delivery for delivery in self._running if not self._is_wanted(delivery)])
                self._begin()
                await self._until_rung()
        finally:
            await self._end(list(self._running))

    def _is_wanted(self, delivery: Delivery) -> bool:
        return not delivery.is_gone and self._wanted.endpoints.get(delivery.name) == delivery.endpoint

    def _begin(self) -> None:
        running = {delivery.name for delivery in self._running}
        for name, endpoint in self._wanted.endpoints.items():
            if name not in running:
                delivery = Delivery(self._ts, name, endpoint)
                self._running[delivery] = asyncio.create_task(delivery.run(), name=f"delivery to {name}")

    async def _until_rung(self) -> None:
        """Wait for something to do.

        Raises:
            BaseException: what a delivery failed with, for it would be missed by nobody until its events are.

        """
        ringing = asyncio.create_task(self._bell.wait())
        try:
            while not ringing.done():
                # One whose endpoint is gone has ended, and that is all right.
                going = [task for task in self._running.values() if not task.done()]
                done, _ = await asyncio.wait([ringing, *going], return_when=asyncio.FIRST_COMPLETED)
                for task in done - {ringing}:
                    await task
        finally:
            ringing.cancel()

    async def _end(self, deliveries: list[Delivery]) -> None:
        tasks = [self._running[delivery] for delivery in deliveries]
        for delivery in deliveries:
            delivery.stop()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=DRAIN)
            for task in late:
                log.warning("delivery did not end in time", delivery=task.get_name(), seconds=DRAIN)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for delivery in deliveries:
            del self._running[delivery]
