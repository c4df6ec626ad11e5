"""The command streams (design §1, §3)."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from redis.exceptions import ResponseError

from turnstream.adapters.redis.command_stream.cluster_reader import ClusterStreamReader
from turnstream.adapters.redis.command_stream.standalone_reader import StandaloneStreamReader
from turnstream.adapters.redis.connection.cluster import Cluster
from turnstream.adapters.redis.connection.pipelined import Word
from turnstream.adapters.redis.deployment.identity import Deployment
from turnstream.adapters.redis.failures import unusable
from turnstream.adapters.redis.server import Server
from turnstream.codec.envelope import encode_optional
from turnstream.domain.command_specs import FREEING
from turnstream.errors import KeyUnusable, Overloaded
from turnstream.ports import CommandEntry, CommandQueue, RawEntry

EXHAUSTED = "exhausted the last possible ID"
"""The error of the server for a stream that has an entry with the largest id."""

NO_KEYS: Mapping[str, str] = MappingProxyType({})


LARGEST_FREEING = 64 * 1024
"""Bytes of a command that a full server takes, because it only frees memory; `enqueue_freeing.lua` checks it."""


class RedisQueue(CommandQueue):
    """Appends by one script; reads on separate connections: one for all partitions, in a cluster one for each."""

    def __init__(self, server: Server, deployment: Deployment) -> None:
        """Use a server; reading connections are opened by the first read."""
        self._server = server
        self._deployment = deployment
        topology = server.topology
        reading = (
            ClusterStreamReader(server, topology) if isinstance(topology, Cluster) else StandaloneStreamReader(server)
        )
        self._reading: ClusterStreamReader | StandaloneStreamReader = reading

    async def publish(self, partition: int, entries: Sequence[CommandEntry]) -> None:
        """Append commands to a partition's stream, in this order.

        Raises:
            Overloaded: more commands wait there than may.
            ServerFull: there is no memory for them; none was appended.
            Unavailable: it is not known whether they were appended.
            KeyUnusable: the key has another type, or nothing can follow the last entry; nothing was appended.
            ConfigurationError: the deployment has other partitions.

        """
        if not self._deployment.made:
            # A worker may have created it with other partitions: commands to these would never be applied.
            await self._deployment.look()
        limit, scripts = self._server.settings.max_backlog, self._server.scripts
        script = scripts.enqueue_freeing if all(map(_frees, entries)) else scripts.enqueue
        words: list[Word] = [limit]
        for entry in entries:
            optional = encode_optional(entry)
            words += (entry.command_id, entry.type, entry.data, len(optional), *optional)
        keys, calls = [self._server.partition(partition).commands], self._server.calls(partition)
        try:
            backlog: int = await script.run(calls, keys, words)
        except ResponseError as error:
            raise await append_failure(self._server, partition, error) from None
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
    """Return whether a command only frees memory, and is small itself."""
    return entry.type in FREEING and len(entry.data) <= LARGEST_FREEING


async def append_failure(
    server: Server, partition: int, error: ResponseError, types: Mapping[str, str] = NO_KEYS
) -> KeyUnusable:
    """Return the meaning of an error of a script that appends to a command stream: one of its keys has another type.

    `types` are the other keys that it needs, each with its type.
    """
    keys = server.partition(partition)
    if EXHAUSTED in str(error):
        reason = "it has an entry with the last id that there can be; a worker replaces it when it is empty"
        return KeyUnusable(keys.commands, reason)
    needed = {keys.commands: keys.types[keys.commands], **types}
    return await unusable(error, server.calls(partition), needed)
