"""Subscriptions to pub/sub channels: messages are received at once, and queued for an iterator (design §6)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection

from turnstream.adapters.redis.connection.pipelined import Patience, Transport, pack
from turnstream.errors import Unavailable
from turnstream.ports import Subscription


class DeliveryCheck:
    """The unanswered pings of one connection; the server answers them after all earlier messages."""

    def __init__(self, transport: Transport) -> None:
        """Ping on a connection that another task reads."""
        self._transport = transport
        self._asked: deque[asyncio.Future[None]] = deque()

    async def ask(self, where: str, timeout: float) -> None:
        """Return after the reading task has reached the answer, within `timeout` seconds.

        Raises:
            Unavailable: the connection was lost, or no answer came in time.

        """
        if self._transport.is_closed:
            raise Unavailable(f"The subscription at {where} was lost")
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(answered)
        self._transport.send(pack(("PING",)))
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


Received = tuple[str, bytes] | DeliveryCheck
"""A channel and a payload; or the reply to a ping, which follows everything published before it."""


ALIVE = b"alive"
"""The argument of a ping that only checks the connection."""


class RedisSubscription(Subscription):
    """Receives the payloads of channels, over one connection, or in a cluster over one to each node that has some."""

    def __init__(self, where: str, patience: Patience) -> None:
        """Start without channels; `listen` adds them."""
        self._where = where
        self._patience = patience
        self._received: deque[Received] = deque()
        self._arrived = asyncio.Event()
        self._failure: Exception | None = None
        self._closed = False
        self._callback: Callable[[bytes], None] | None = None
        """The callback of `consume`, which receives payloads at once; without one they are queued."""
        self._connections: list[_NodeConnection] = []

    async def listen(self, connection: AbstractConnection, commands: Sequence[Sequence[str]]) -> None:
        """Subscribe by commands with their channels; return when the server has confirmed all of them."""
        node = _NodeConnection(connection, sum(len(channels) for _, *channels in commands), self._receive, self._end)
        node.watch(self._patience.heartbeat)
        self._connections.append(node)
        node.transport.send(b"".join(map(pack, commands)))
        await node.subscribed

    async def ping(self) -> None:
        """Return when everything published before this call has been consumed.

        Raises:
            Unavailable: a connection was lost, or a server does not answer.

        """
        await asyncio.gather(*(node.pings.ask(self._where, self._patience.response) for node in self._connections))

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (channel, payload).

        Raises:
            Unavailable: a connection was lost, or a channel has moved to another node.

        """
        while True:
            # Messages received before the end are yielded first.
            while self._received:
                received = self._received.popleft()
                if isinstance(received, DeliveryCheck):
                    received.answer()
                else:
                    yield received
            if self._failure:
                raise self._failure
            if self._closed:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def consume(self, callback: Callable[[bytes], None]) -> None:
        """Pass each payload to `callback`, within the event loop's callback that receives it.

        Raises:
            Unavailable: a connection was lost, or a channel has moved to another node.

        """
        received, self._received = self._received, deque()
        self._callback = callback
        try:
            for each in received:
                self._receive(each)
            while not (self._failure or self._closed):
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._callback = None
        if self._failure:
            raise self._failure

    async def aclose(self) -> None:
        """Close all connections, and end iteration."""
        self._closed = True
        self._arrived.set()
        await asyncio.gather(*(node.transport.aclose() for node in self._connections))

    def _receive(self, received: Received) -> None:
        if self._callback is None:
            self._received.append(received)
            self._arrived.set()
        elif isinstance(received, DeliveryCheck):
            received.answer()
        else:
            try:
                self._callback(received[1])
            except Exception as bug:  # noqa: BLE001 - `consume` raises it to its caller
                self._callback, self._failure = None, bug
                self._arrived.set()

    def _end(self, error: Exception) -> None:
        lost = Unavailable(f"The subscription at {self._where} was lost: {error}")
        self._failure = self._failure or (error if isinstance(error, Unavailable) else lost)
        self._arrived.set()


class _NodeConnection:
    """One connection of a subscription."""

    def __init__(
        self,
        connection: AbstractConnection,
        channels: int,
        received: Callable[[Received], None],
        ended: Callable[[Exception], None],
    ) -> None:
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport = Transport(connection, self._handle_reply, self._lost)
        self.pings = DeliveryCheck(self.transport)
        self._missing = channels
        self._received = received
        self._ended = ended
        self._asked_at: float | None = asyncio.get_running_loop().time()

    def watch(self, heartbeat: float) -> None:
        """Detect a dead connection by heartbeats."""
        self.transport.watch(heartbeat, lambda: self._asked_at, self._ask)

    def _ask(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        self.transport.send(pack(("PING", ALIVE)))

    def _handle_reply(self, answer: Any) -> None:  # noqa: ANN401 - any reply of the server
        if isinstance(answer, Exception):
            self._lost(answer)
            return
        kind, channel, *rest = answer
        if kind in (b"message", b"smessage"):
            self._received((channel.decode(), rest[0]))
        elif kind == b"pong":
            if channel == ALIVE:
                self._asked_at = None
            else:
                self._received(self.pings)
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
