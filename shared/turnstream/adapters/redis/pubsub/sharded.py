"""Sharded channels of a cluster: each is subscribed on the node that holds its slot (ADR 15)."""

from collections.abc import Iterable, Sequence

from redis.exceptions import MovedError, RedisError

from turnstream.adapters.redis.connection.addresses import Address
from turnstream.adapters.redis.connection.cluster import REDIRECTS, Cluster
from turnstream.adapters.redis.connection.connector import raise_for
from turnstream.adapters.redis.connection.pipelined import Patience
from turnstream.adapters.redis.connection.slots import slot_of
from turnstream.adapters.redis.pubsub.subscription import RedisSubscription
from turnstream.errors import Unavailable


async def subscribe_sharded(
    cluster: Cluster, where: str, channels: Sequence[str], patience: Patience
) -> RedisSubscription:
    """Subscribe on the nodes that hold the channels; channels that have moved are looked up again.

    Raises:
        Unavailable: a node does not answer.

    """
    for _ in range(REDIRECTS):
        subscription = RedisSubscription(where, patience)
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


async def _listen(cluster: Cluster, subscription: RedisSubscription, node: Address, names: Sequence[str]) -> None:
    connection = await cluster.connect_to(node)
    slots: dict[int, list[str]] = {}
    for name in names:
        slots.setdefault(slot_of(name), []).append(name)
    try:
        # One command a slot: it takes channels of one slot only.
        await subscription.listen(connection, [("SSUBSCRIBE", *together) for together in slots.values()])
    except MovedError as redirection:
        cluster.moved(redirection, node)
        raise
    except (RedisError, OSError, Unavailable):
        cluster.doubt(node)
        raise


async def by_node(cluster: Cluster, channels: Iterable[str]) -> dict[Address, list[str]]:
    """Return the nodes that hold channels, each with its own.

    Raises:
        Unavailable: no node is known to hold one.

    """
    nodes: dict[Address, list[str]] = {}
    for channel in channels:
        nodes.setdefault(await cluster.holder(slot_of(channel)), []).append(channel)
    return nodes
