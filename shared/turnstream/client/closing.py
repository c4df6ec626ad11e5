"""A deployment as one client sees it: in its own event loop only, and not once it is closed."""

from collections.abc import Callable
from typing import TypeVar, cast

from turnstream.client.home import Home
from turnstream.errors import Unavailable
from turnstream.ports import Backend

Port = TypeVar("Port")

CLOSED = "The client was closed: open a new one"
"""What whoever uses it all the same is told."""


class UntilClosed:
    """A backend whose ports for questions refuse every call from `aclose` on, and in another event loop.

    The others pass as they are, as does `backend`: what sends and listens has a close of its own, which needs them.
    """

    def __init__(self, backend: Backend) -> None:
        """Guard a backend, which stays open itself."""
        self._closed = False
        self.home = Home()
        self.backend = backend
        self.partitions = backend.partitions
        self.store = backend.store
        self.queue = backend.queue
        self.ownership = backend.ownership
        self.channels = backend.channels
        self.reader = self._guarded(backend.reader)
        self.events = self._guarded(backend.events)
        self.quarantine = self._guarded(backend.quarantine)
        self.subscriptions = self._guarded(backend.subscriptions)

    def check(self) -> None:
        """Raise `Unavailable` once it is closed, and `OpenedElsewhere` where it cannot be used."""
        self.check_open()
        self.home.check()

    def check_open(self) -> None:
        """Raise `Unavailable` once it is closed; for what may be called outside the event loop."""
        if self._closed:
            raise Unavailable(CLOSED)

    async def aclose(self) -> None:
        """Refuse from now on."""
        self._closed = True

    def _guarded(self, port: Port) -> Port:
        return cast("Port", _Guarded(port, self.check))


class _Guarded:
    """A port that is checked before each use."""

    def __init__(self, port: object, check: Callable[[], None]) -> None:
        self._port = port
        self._check = check

    def __getattr__(self, name: str) -> object:
        self._check()
        return getattr(self._port, name)
