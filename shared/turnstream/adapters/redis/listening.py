"""Listening on channels: what is published is taken as it comes, and waits for whoever iterates (design §6)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection

from turnstream.adapters.redis.pinging import Pings
from turnstream.adapters.redis.topology.connection import Patience, pack
from turnstream.adapters.redis.topology.wire import Wire
from turnstream.errors import Unavailable

Heard = tuple[str, bytes] | Pings
"""A channel and a payload; or that all that was published before a ping has come."""


ALIVE = b"alive"
"""What a ping carries that only asks whether the connection is."""


class RedisSubscription:
    """The payloads of some channels, over one connection, or one to each node that holds some of them."""

    def __init__(self, where: str, patience: Patience) -> None:
        """Hear nothing yet; `listen` adds channels."""
        self._where = where
        self._patience = patience
        self._heard: deque[Heard] = deque()
        self._arrived = asyncio.Event()
        self._failure: Exception | None = None
        self._closed = False
        self._hears: Callable[[bytes], None] | None = None
        """Who is given payloads at once; they wait for nobody else."""
        self._ears: list[_Ear] = []

    async def listen(self, connection: AbstractConnection, commands: Sequence[Sequence[str]]) -> None:
        """Subscribe on a connection, by commands with their channels; on return nothing is missed."""
        ear = _Ear(connection, sum(len(channels) for _, *channels in commands), self._take, self._end)
        ear.watch(self._patience.heartbeat)
        self._ears.append(ear)
        ear.wire.send(b"".join(map(pack, commands)))
        await ear.subscribed

    async def ping(self) -> None:
        """Return when all that was published before has been taken out.

        Raises:
            Unavailable: a connection was lost, or a server does not answer.

        """
        await asyncio.gather(*(ear.pings.ask(self._where, self._patience.response) for ear in self._ears))

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (channel, payload).

        Raises:
            Unavailable: a connection was lost, or a channel has moved to another node.

        """
        while True:
            # What was heard before the end is given first.
            while self._heard:
                heard = self._heard.popleft()
                if isinstance(heard, Pings):
                    heard.answer()
                else:
                    yield heard
            if self._failure:
                raise self._failure
            if self._closed:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def hear(self, take: Callable[[bytes], None]) -> None:
        """Give each payload to `take`, in the turn of the event loop that brings it.

        Raises:
            Unavailable: a connection was lost, or a channel has moved to another node.

        """
        heard, self._heard = self._heard, deque()
        self._hears = take
        try:
            for each in heard:
                self._take(each)
            while not (self._failure or self._closed):
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._hears = None
        if self._failure:
            raise self._failure

    async def aclose(self) -> None:
        """End it."""
        self._closed = True
        self._arrived.set()
        await asyncio.gather(*(ear.wire.aclose() for ear in self._ears))

    def _take(self, heard: Heard) -> None:
        if self._hears is None:
            self._heard.append(heard)
            self._arrived.set()
        elif isinstance(heard, Pings):
            heard.answer()
        else:
            try:
                self._hears(heard[1])
            except Exception as bug:  # noqa: BLE001 - it is that of whoever hears, and raised there
                self._hears, self._failure = None, bug
                self._arrived.set()

    def _end(self, error: Exception) -> None:
        lost = Unavailable(f"The subscription at {self._where} was lost: {error}")
        self._failure = self._failure or (error if isinstance(error, Unavailable) else lost)
        self._arrived.set()


class _Ear:
    """One of its connections."""

    def __init__(
        self,
        connection: AbstractConnection,
        channels: int,
        heard: Callable[[Heard], None],
        ended: Callable[[Exception], None],
    ) -> None:
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wire = Wire(connection, self._answered, self._lost)
        self.pings = Pings(self.wire)
        self._missing = channels
        self._heard = heard
        self._ended = ended
        self._asked_at: float | None = asyncio.get_running_loop().time()

    def watch(self, heartbeat: float) -> None:
        """Find out when the connection is dead."""
        self.wire.watch(heartbeat, lambda: self._asked_at, self._ask)

    def _ask(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        self.wire.send(pack(("PING", ALIVE)))

    def _answered(self, answer: Any) -> None:  # noqa: ANN401 - whatever the server answers
        if isinstance(answer, Exception):
            self._lost(answer)
            return
        kind, channel, *rest = answer
        if kind in (b"message", b"smessage"):
            self._heard((channel.decode(), rest[0]))
        elif kind == b"pong":
            if channel == ALIVE:
                self._asked_at = None
            else:
                self._heard(self.pings)
        elif kind == b"sunsubscribe":
            self._lost(Unavailable(f"The channel {channel.decode()} has moved to another node: subscribe again"))
        elif kind in (b"subscribe", b"ssubscribe"):
            self._missing -= 1
            if self._missing == 0 and not self.subscribed.done():
                self._asked_at = None
                self.subscribed.set_result(None)

    def _lost(self, error: Exception) -> None:
        if self.subscribed.done():
            self._ended(error)
        else:
            self.subscribed.set_exception(error)
