"""Sharded channels of a cluster: each is heard on the node that holds its slot (ADR 15)."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError, RedisError

from turnstream.adapters.redis.pinging import Pings
from turnstream.adapters.redis.topology.addresses import Address
from turnstream.adapters.redis.topology.cluster import REDIRECTS, Cluster
from turnstream.adapters.redis.topology.connection import answer, pack, raise_for
from turnstream.adapters.redis.topology.slots import slot_of
from turnstream.errors import Unavailable


class ShardedSubscription:
    """The payloads of some sharded channels, over one connection to each node that holds some of them."""

    def __init__(self, where: str, timeout: float) -> None:
        """Hear nothing yet; `listen` adds channels; a node answers within `timeout` seconds."""
        self._where = where
        self._timeout = timeout
        self._heard: asyncio.Queue[tuple[str, bytes] | Pings | None] = asyncio.Queue()
        self._failure: Exception | None = None
        self._closed = False
        self._listeners: list[tuple[AbstractConnection, asyncio.Task[None]]] = []
        self._pings: list[Pings] = []

    async def listen(self, connection: AbstractConnection, channels: Sequence[str]) -> None:
        """Subscribe on a connection to the node that holds these channels; on return nothing is missed."""
        slots: dict[int, list[str]] = {}
        for channel in channels:
            slots.setdefault(slot_of(channel), []).append(channel)
        try:
            # One command a slot: it takes channels of one slot only.
            await connection.send_packed_command([pack(("SSUBSCRIBE", *names)) for names in slots.values()])
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pings = Pings(connection, self._where, self._timeout)
        listener = asyncio.create_task(self._hear(connection, pings, len(channels), subscribed), name="subscription")
        self._listeners.append((connection, listener))
        self._pings.append(pings)
        try:
            async with asyncio.timeout(self._timeout):
                await subscribed
        except TimeoutError:
            raise Unavailable(f"A node at {self._where} did not answer within {self._timeout:g} s") from None

    async def ping(self) -> None:
        """Return when all that was published before has been taken out.

        Raises:
            Unavailable: a connection was lost, or a node does not answer.

        """
        await asyncio.gather(*(pings.ask() for pings in self._pings))

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (channel, payload).

        Raises:
            Unavailable: a connection was lost, or a channel has moved to another node.

        """
        while True:
            # What was heard before the end is given first.
            if self._heard.empty() and self._failure:
                raise self._failure
            if self._heard.empty() and self._closed:
                return
            heard = await self._heard.get()
            if isinstance(heard, Pings):
                heard.answer()
            elif heard is not None:
                yield heard

    async def aclose(self) -> None:
        """End it."""
        self._closed = True
        listeners, self._listeners = self._listeners, []
        for connection, listener in listeners:
            with suppress(RedisError):
                await connection.disconnect(nowait=True)
            listener.cancel()
        if listeners:
            await asyncio.wait([listener for _, listener in listeners])
        self._heard.put_nowait(None)

    async def _hear(
        self, connection: AbstractConnection, pings: Pings, channels: int, subscribed: asyncio.Future[None]
    ) -> None:
        """Take what a node says until it says no more."""
        try:
            while True:
                kind, channel, *rest = await answer(connection)
                if kind == b"smessage":
                    self._heard.put_nowait((channel.decode(), rest[0]))
                elif kind == b"pong":
                    self._heard.put_nowait(pings)
                elif kind == b"ssubscribe":
                    channels -= 1
                    if channels == 0:
                        subscribed.set_result(None)
                elif kind == b"sunsubscribe":
                    moved = Unavailable(f"The channel {channel.decode()} has moved to another node: subscribe again")
                    self._end(moved, subscribed)
        except (RedisError, OSError) as error:
            self._end(error, subscribed)

    def _end(self, error: Exception, subscribed: asyncio.Future[None]) -> None:
        if not subscribed.done():
            subscribed.set_exception(error)
        elif not self._failure:
            lost = Unavailable(f"The subscription at {self._where} was lost: {error}")
            self._failure = error if isinstance(error, Unavailable) else lost
            self._heard.put_nowait(None)


async def subscribe_sharded(
    cluster: Cluster, where: str, channels: Sequence[str], timeout: float
) -> ShardedSubscription:
    """Listen on the nodes that hold the channels; those that moved meanwhile are looked for again.

    Each answers within `timeout` seconds.

    Raises:
        Unavailable: a node does not answer.

    """
    for _ in range(REDIRECTS):
        subscription = ShardedSubscription(where, timeout)
        try:
            for node, names in (await by_node(cluster, channels)).items():
                await _listen(cluster, subscription, node, names)
        except MovedError:
            await subscription.aclose()
        except RedisError as error:
            await subscription.aclose()
            raise_for(error)
        except BaseException:
            await subscription.aclose()
            raise
        else:
            return subscription
    raise Unavailable(f"The channels at {where} move faster than they can be followed")


async def _listen(cluster: Cluster, subscription: ShardedSubscription, node: Address, names: Sequence[str]) -> None:
    connection = await cluster.connect_to(node)
    try:
        await subscription.listen(connection, names)
    except MovedError as redirection:
        cluster.moved(redirection, node)
        raise
    except (RedisError, OSError, Unavailable):
        cluster.doubt(node)
        raise


async def by_node(cluster: Cluster, channels: Iterable[str]) -> dict[Address, list[str]]:
    """Return the nodes that hold channels, each with its own.

    Raises:
        Unavailable: nobody is known to hold one.

    """
    nodes: dict[Address, list[str]] = {}
    for channel in channels:
        nodes.setdefault(await cluster.holder(slot_of(channel)), []).append(channel)
    return nodes
