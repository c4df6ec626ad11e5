"""All deliveries of a process: begun, ended and begun again as the configuration says."""

import asyncio
from collections.abc import Iterator
from typing import Final

from turnstream import Turnstream
from turnstream.logging import get_logger
from turnstream_relay.configuration import Configuration, Endpoint
from turnstream_relay.delivery import Delivery

log = get_logger(__name__)

DRAIN: Final = 15.0
"""Seconds in which a delivery must end that a new configuration ends; a relay that stops has less."""


class Running:
    """A delivery and the task that it runs in."""

    def __init__(self, delivery: Delivery) -> None:
        """Begin."""
        self.delivery = delivery
        self.task = asyncio.create_task(delivery.run(), name=f"delivery to {delivery.name}")
        self._cut: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """End it, by force if necessary."""
        if self._cut is None and not self.task.done():
            self.delivery.stop()
            self._cut = asyncio.get_running_loop().call_later(DRAIN, self._end_now)

    def _end_now(self) -> None:
        if not self.task.done():
            log.warning("delivery did not end in time", endpoint=self.delivery.name, seconds=DRAIN)
            self.task.cancel()


class Relay:
    """Delivers to all endpoints, each separately."""

    def __init__(self, ts: Turnstream, configuration: Configuration) -> None:
        """Read and write by this client."""
        self._ts = ts
        self._wanted = configuration
        self._running: dict[str, Running] = {}
        self._changed = asyncio.Event()
        self._stopping = False

    def __iter__(self) -> Iterator[Delivery]:
        """Go through the deliveries."""
        return iter([running.delivery for running in self._running.values()])

    def stop(self) -> None:
        """Finish the attempts in flight, and end `run`."""
        log.info("relay stopping")
        self._stopping = True
        self._changed.set()

    def configure(self, configuration: Configuration) -> None:
        """Deliver as this says from now on; an endpoint that stays as it was is not interrupted, unless it is gone."""
        self._wanted = configuration
        for delivery in self:
            delivery.is_gone = False
        self._changed.set()

    async def run(self) -> None:
        """Deliver until stopped.

        Raises:
            ConfigurationError: the server does not permit what is needed.

        """
        try:
            while not self._stopping:
                self._changed.clear()
                self._apply_configuration()
                await self._changed.wait()
        finally:
            for running in self._running.values():
                running.end()
            await asyncio.gather(*(running.task for running in self._running.values()), return_exceptions=True)

    def _apply_configuration(self) -> None:
        """End what is not wanted, and begin what is; an endpoint is not delivered to twice at the same time."""
        for name, running in list(self._running.items()):
            if running.task.done():
                if not running.task.cancelled():
                    # Its failure ends all: otherwise it would not be noticed until its events are missed.
                    running.task.result()
                if not running.delivery.is_gone:
                    del self._running[name]
            elif self._wanted.endpoints.get(name) != running.delivery.endpoint:
                running.end()
        for name, endpoint in self._wanted.endpoints.items():
            if name not in self._running:
                self._begin(name, endpoint)

    def _begin(self, name: str, endpoint: Endpoint) -> None:
        running = self._running[name] = Running(Delivery(self._ts, name, endpoint))
        running.task.add_done_callback(lambda _: self._changed.set())
