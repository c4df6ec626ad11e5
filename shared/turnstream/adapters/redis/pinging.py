"""Asking, over a connection that listens, whether all that was published before has come (design §6)."""

import asyncio
from collections import deque

from turnstream.adapters.redis.topology.connection import pack
from turnstream.adapters.redis.topology.wire import Wire
from turnstream.errors import Unavailable


class Pings:
    """The questions on one connection that are not answered yet; the server answers behind what it has to tell."""

    def __init__(self, wire: Wire) -> None:
        """Ask on a connection that somebody else reads."""
        self._wire = wire
        self._asked: deque[asyncio.Future[None]] = deque()

    async def ask(self, where: str, timeout: float) -> None:
        """Return when whoever reads has come to the answer, within `timeout` seconds.

        Raises:
            Unavailable: the connection was lost, or no answer came in time.

        """
        if self._wire.is_closed:
            raise Unavailable(f"The subscription at {where} was lost")
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(answered)
        self._wire.send(pack(("PING",)))
        try:
            async with asyncio.timeout(timeout):
                await answered
        except TimeoutError:
            raise Unavailable(f"The server at {where} did not answer within {timeout:g} s") from None

    def answer(self) -> None:
        """Tell who asked first that the answer has come."""
        answered = self._asked.popleft()
        if not answered.done():
            answered.set_result(None)
