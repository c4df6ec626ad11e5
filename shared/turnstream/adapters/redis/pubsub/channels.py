"""Publish and subscribe: a doorbell, lossy by nature (design §6)."""

from collections.abc import Sequence

from redis.exceptions import RedisError

from turnstream.adapters.redis.connection.cluster import Cluster
from turnstream.adapters.redis.connection.connector import raise_for
from turnstream.adapters.redis.pubsub.sharded import by_node, subscribe_sharded
from turnstream.adapters.redis.pubsub.subscription import RedisSubscription
from turnstream.adapters.redis.server import Server
from turnstream.domain.events import EVENTS
from turnstream.domain.models import partition_of
from turnstream.ports import Channels, Subscription


class RedisChannels(Channels):
    """Exact channels on one server, where patterns would cost every publisher; in a cluster, sharded ones."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    def reply_channel(self, partition: int, client_id: str) -> str:
        """Return the channel on which a client gets its replies from a partition."""
        return self._server.partition(partition).reply_channel(client_id)

    def loss_channel(self, partition: int) -> str:
        """Return the channel that tells of commands that were taken from a partition before they were applied."""
        return self._server.partition(partition).lost

    def is_reply_channel(self, partition: int, channel: str) -> bool:
        """Return whether a channel is for replies from this partition."""
        return self._server.partition(partition).is_reply_channel(channel)

    def event_channels(self, types: Sequence[str], session_id: str | None) -> list[str]:
        """Return the channels that carry these types of event (none: all), or the events of one session.

        In a cluster they carry others as well, for there is one for each partition.
        """
        keys = self._server.keys
        if keys.sharded:
            partitions = keys.partitions
            return [partitions[number].live for number in _partitions(session_id, len(partitions))]
        if session_id is not None:
            return [keys.session_channel(session_id)]
        return [keys.event_channel(name) for name in types or EVENTS]

    async def grouped(self, channels: Sequence[str]) -> list[list[str]]:
        """Return channels by the node that holds them now."""
        topology = self._server.topology
        if isinstance(topology, Cluster):
            return list((await by_node(topology, channels)).values())
        return [list(channels)]

    async def subscribe(self, channels: Sequence[str]) -> Subscription:
        """Listen; on return nothing published from now on is missed."""
        topology = self._server.topology
        if isinstance(topology, Cluster):
            return await subscribe_sharded(topology, self._server.where, channels, self._server.patience)
        return await self._subscribe(channels)

    async def hear_changes(self, channel: str) -> Subscription:
        """Listen to what members announce: on a channel that is not sharded, for a cluster's nodes pass it on."""
        return await self._subscribe([channel])

    async def _subscribe(self, channels: Sequence[str]) -> RedisSubscription:
        connection = await self._server.topology.connect(self._server.keys.workers)
        subscription = RedisSubscription(self._server.where, self._server.patience)
        try:
            await subscription.listen(connection, [("SUBSCRIBE", *channels)])
        except BaseException as error:
            await subscription.aclose()
            if isinstance(error, RedisError):
                raise_for(error)
            raise
        return subscription


def _partitions(session_id: str | None, partitions: int) -> Sequence[int]:
    return range(partitions) if session_id is None else (partition_of(session_id, partitions),)
