"""The command streams (design §1, §3)."""

from collections.abc import Awaitable, Mapping, Sequence
from types import MappingProxyType

from redis.exceptions import ResponseError

from turnstream.adapters.redis.deployment import Deployment
from turnstream.adapters.redis.faults import unusable
from turnstream.adapters.redis.partition_reading import PartitionReading
from turnstream.adapters.redis.reading import SharedReading
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.topology.cluster import Cluster
from turnstream.adapters.redis.topology.connection import Word
from turnstream.codec.envelope import encode_optional
from turnstream.domain.commands import FREEING
from turnstream.errors import KeyUnusable, Overloaded
from turnstream.ports import CommandEntry, RawEntry

EXHAUSTED = "exhausted the last possible ID"
"""What the server says of a stream to which somebody has written an entry under the largest id."""

NO_KEYS: Mapping[str, str] = MappingProxyType({})


LARGEST_FREEING = 64 * 1024
"""Bytes of a command that a full server takes, because it only frees memory; `enqueue_freeing.lua` checks it."""


class RedisQueue:
    """Appends by one script; reads on connections of its own: one for all partitions, in a cluster one for each."""

    def __init__(self, server: Server, deployment: Deployment) -> None:
        """Use a server; reading connections are opened by the first read."""
        self._server = server
        self._deployment = deployment
        topology = server.topology
        reading = PartitionReading(server, topology) if isinstance(topology, Cluster) else SharedReading(server)
        self._reading: PartitionReading | SharedReading = reading

    async def publish(self, partition: int, entries: Sequence[CommandEntry]) -> None:
        """Append commands to a partition's stream, in this order.

        Raises:
            Overloaded: more commands wait there than may.
            ServerFull: there is no memory for them; none was appended.
            Unavailable: it is not known whether they were appended.
            KeyUnusable: something else stands there, or nothing can follow the last entry; nothing was appended.
            ConfigurationError: the deployment has other partitions.

        """
        if not self._deployment.made:
            # A worker may have made it with other partitions by now: what goes to this one's would never be applied.
            await self._deployment.look()
        limit = self._server.settings.max_backlog
        words: list[Word] = [limit]
        for entry in entries:
            optional = encode_optional(entry)
            words += (entry.command_id, entry.type, entry.data, len(optional), *optional)
        keys = [self._server.partition(partition).commands]
        calls = self._server.calls(partition)
        scripts = self._server.scripts
        script = scripts.enqueue_freeing if all(map(_frees, entries)) else scripts.enqueue
        backlog = await appended(self._server, partition, script.run(calls, keys, words))
        if backlog >= 0:
            raise Overloaded(backlog, limit)

    async def read(self, cursors: Mapping[int, str], count: int, block: float) -> Mapping[int, Sequence[RawEntry]]:
        """Return up to `count` entries a partition behind its cursor; wait up to `block` seconds for the first."""
        return await self._reading.read(cursors, count, block)

    async def wake(self) -> None:
        """End a `read` that waits."""
        await self._reading.wake()

    async def aclose(self) -> None:
        """Close the reading connections."""
        await self._reading.aclose()


def _frees(entry: CommandEntry) -> bool:
    """Tell whether a command only frees memory, and is small itself."""
    return entry.type in FREEING and len(entry.data) <= LARGEST_FREEING


async def appended(server: Server, partition: int, answer: Awaitable[int], types: Mapping[str, str] = NO_KEYS) -> int:
    """Return the answer of a script that appends to a command stream.

    `types` are the other keys that it needs, each with its type.

    Raises:
        KeyUnusable: something else stands at a key, or the stream has an entry under the largest id.

    """
    try:
        return await answer
    except ResponseError as error:
        keys = server.partition(partition)
        if EXHAUSTED in str(error):
            reason = "it has an entry with the last id that there can be; a worker replaces it when it is empty"
            raise KeyUnusable(keys.commands, reason) from None
        needed = {keys.commands: keys.types[keys.commands], **types}
        raise await unusable(error, server.calls(partition), needed) from None
