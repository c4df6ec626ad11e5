"""The shared parts of the adapter: the way to the keys, the scripts, and the settings."""

from typing import Any

from turnstream.adapters.redis.connection.cluster import Cluster
from turnstream.adapters.redis.connection.executor import CommandExecutor, Topology
from turnstream.adapters.redis.connection.pipelined import Patience
from turnstream.adapters.redis.function_library import LibraryKeeper
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.adapters.redis.outcome_times import OutcomeBuckets, OutcomeClock
from turnstream.adapters.redis.scripting import ScriptArgs, Scripts
from turnstream.errors import ConfigurationError
from turnstream.settings import Settings


class Server:
    """The server or the servers that hold a deployment."""

    def __init__(
        self, settings: Settings, topology: Topology, scripts: Scripts, *, knows_replication: bool = True
    ) -> None:
        """Describe them; nothing is opened yet. `knows_replication` if there is a replication id to check."""
        self.settings = settings
        self.topology = topology
        self.scripts = scripts
        self.functions = LibraryKeeper(scripts.library)
        self.knows_replication = knows_replication
        self.where = settings.masked_url
        self.patience = patience_of(settings)
        self.keys = Keys(settings.namespace, settings.partitions, sharded=isinstance(topology, Cluster))
        self.buckets = OutcomeBuckets(settings.deduplication_window)
        self.misfit: ConfigurationError | None = None
        """Why the keys of this deployment are not those of its workers, once that is known."""
        self._clocks: dict[int, OutcomeClock] = {}
        self._calls = [topology.calls(keys.partition) for keys in self.keys.partitions]

    def partition(self, number: int) -> PartitionKeys:
        """Return the keys of a partition."""
        return self.keys.partitions[number]

    def calls(self, partition: int) -> CommandExecutor:
        """Return what takes the commands on the keys of a partition.

        Raises:
            ConfigurationError: the deployment was created with other partitions since.

        """
        if self.misfit:
            raise self.misfit
        return self._calls[partition]

    def clock(self, partition: int) -> OutcomeClock:
        """Return the time by which the outcomes of a partition are kept that is owned here."""
        if partition not in self._clocks:
            self._clocks[partition] = OutcomeClock(self.settings.deduplication_window)
        return self._clocks[partition]

    def declared(self, partition: int, *keys: str) -> tuple[str, ...]:
        """Return the keys to name for a script that touches others as well.

        While the keys of a slot are on their way to another node, a script that meets one that is gone, or not there
        yet, fails half-way. A key that never exists, named beforehand, has the server refuse such a script as a whole.
        """
        return (*keys, self.partition(partition).absent) if self.keys.sharded else keys

    async def read(self, partition: int, reads: ScriptArgs) -> list[Any]:
        """Return the answers to several reads of a partition, as of one moment."""
        keys = self.declared(partition, self.partition(partition).partition)
        answers: list[Any] = await self.scripts.read.run(self.calls(partition), keys, reads.words)
        return answers


def patience_of(settings: Settings) -> Patience:
    """Return how long connections wait."""
    return Patience(settings.response_timeout, settings.heartbeat)
