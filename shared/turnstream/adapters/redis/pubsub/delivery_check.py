"""The check that everything published before has arrived, on a connection that listens (design §6)."""

import asyncio
from collections import deque

from turnstream.adapters.redis.connection.pipelined import Transport, pack
from turnstream.errors import Unavailable


class DeliveryCheck:
    """The unanswered pings of one connection; the server answers them after all earlier messages."""

    def __init__(self, wire: Transport) -> None:
        """Ping on a connection that another task reads."""
        self._wire = wire
        self._asked: deque[asyncio.Future[None]] = deque()

    async def ask(self, where: str, timeout: float) -> None:
        """Return after the reading task has reached the answer, within `timeout` seconds.

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
        """Resolve the oldest ping."""
        answered = self._asked.popleft()
        if not answered.done():
            answered.set_result(None)
