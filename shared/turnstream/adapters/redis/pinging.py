"""Asking, over a connection that listens, whether all that was published before has come (design §6)."""

import asyncio
from collections import deque

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from turnstream.adapters.redis.topology.connection import pack, raise_for
from turnstream.errors import Unavailable


class Pings:
    """The questions on one connection that are not answered yet; the server answers behind what it has to tell."""

    def __init__(self, connection: AbstractConnection, where: str, timeout: float) -> None:
        """Ask on a connection that somebody else reads; an answer comes within `timeout` seconds."""
        self._connection = connection
        self._where = where
        self._timeout = timeout
        self._asked: deque[asyncio.Future[None]] = deque()

    async def ask(self) -> None:
        """Return when whoever reads has come to the answer.

        Raises:
            Unavailable: the connection was lost, or no answer came in time.

        """
        if not self._connection.is_connected:
            # It would be opened again, without what is listened to.
            raise Unavailable(f"The subscription at {self._where} was lost")
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(answered)
        try:
            async with asyncio.timeout(self._timeout):
                await self._connection.send_packed_command(pack(("PING",)))
                await answered
        except TimeoutError:
            raise Unavailable(f"The server at {self._where} did not answer within {self._timeout:g} s") from None
        except RedisError as error:
            raise_for(error)

    def answer(self) -> None:
        """Tell who asked first that the answer has come."""
        answered = self._asked.popleft()
        if not answered.done():
            answered.set_result(None)
