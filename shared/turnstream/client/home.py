"""Where a client lives: the event loop and the process that opened it; its connections belong to both."""

import asyncio
import os

from turnstream.errors import OpenedElsewhere


class _Process:
    """The id of this process, asked of the system after a fork and not with every call."""

    def __init__(self) -> None:
        self.id = os.getpid()

    def look(self) -> None:
        """Ask again."""
        self.id = os.getpid()


_process = _Process()
os.register_at_fork(after_in_child=_process.look)


class Home:
    """The event loop and the process in which something was opened."""

    def __init__(self) -> None:
        """Remember where this is called."""
        self._loop = asyncio.get_running_loop()
        self._process_id = _process.id

    def check(self) -> None:
        """Raise `OpenedElsewhere` in another event loop or another process: what is waited for there never comes."""
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
