"""Guards of a client: it is used in the event loop and process that opened it, and not after it was closed."""

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar, cast

from turnstream.errors import OpenedElsewhere, Unavailable
from turnstream.ports import Backend


class _Process:
    """The id of this process, asked of the system after a fork and not with every call."""

    def __init__(self) -> None:
        self.id = os.getpid()

    def look(self) -> None:
        """Ask again."""
        self.id = os.getpid()


_process = _Process()
os.register_at_fork(after_in_child=_process.look)


class LoopGuard:
    """The event loop and the process in which something was opened."""

    def __init__(self) -> None:
        """Remember where this is called."""
        self._loop = asyncio.get_running_loop()
        self._process_id = _process.id

    def check(self) -> None:
        """Raise `OpenedElsewhere` in another event loop or process, where replies would never arrive."""
        if self._process_id != _process.id:
            raise OpenedElsewhere(f"process {self._process_id}", f"process {_process.id}")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise OpenedElsewhere(_name(self._loop), "no event loop") from None
        if running is not self._loop:
            raise OpenedElsewhere(_name(self._loop), _name(running))


def _name(loop: asyncio.AbstractEventLoop) -> str:
    """Tell event loops apart, which their own `repr` does not."""
    state = "closed" if loop.is_closed() else "running" if loop.is_running() else "stopped"
    return f"the event loop {type(loop).__qualname__} at {id(loop):#x} ({state})"


Port = TypeVar("Port")

CLOSED = "The client was closed: open a new one"
"""The text of the error for every later use."""


class ClosableBackend:
    """A backend whose ports for questions refuse every call from `aclose` on, and in another event loop.

    The other ports and `backend` are not guarded: sending and listening need them to close.
    """

    def __init__(self, backend: Backend) -> None:
        """Guard a backend, which stays open itself."""
        self._closed = False
        self.home = LoopGuard()
        self.backend = backend
        self.partitions = backend.partitions
        self.store = backend.store
        self.queue = backend.queue
        self.channels = backend.channels
        self.ownership = self._guarded(backend.ownership)
        self.reader = self._guarded(backend.reader)
        self.events = self._guarded(backend.events)
        self.quarantine = self._guarded(backend.quarantine)
        self.subscriptions = self._guarded(backend.subscriptions)

    def check(self) -> None:
        """Raise `Unavailable` once it is closed, and `OpenedElsewhere` if it cannot be used here."""
        self.check_open()
        self.home.check()

    def check_open(self) -> None:
        """Raise `Unavailable` once it is closed; for calls that are allowed outside the event loop."""
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
