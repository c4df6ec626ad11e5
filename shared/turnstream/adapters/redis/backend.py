"""The Redis adapter, put together."""

from functools import partial

from turnstream.adapters.redis.command_stream.queue import RedisQueue
from turnstream.adapters.redis.commit.durability_gate import DurabilityGate
from turnstream.adapters.redis.commit.session_store import RedisStore
from turnstream.adapters.redis.connection.addresses import read_settings
from turnstream.adapters.redis.connection.cluster import Cluster
from turnstream.adapters.redis.connection.connector import Connector, opened
from turnstream.adapters.redis.connection.executor import Standalone
from turnstream.adapters.redis.connection.sentinel import Sentinels
from turnstream.adapters.redis.consumer_store import RedisConsumerStore
from turnstream.adapters.redis.deployment.checks import check_rights, check_servers
from turnstream.adapters.redis.deployment.identity import Deployment
from turnstream.adapters.redis.event_log import RedisEventLog
from turnstream.adapters.redis.function_library import library
from turnstream.adapters.redis.membership.workers import RedisOwnership
from turnstream.adapters.redis.pubsub.channels import RedisChannels
from turnstream.adapters.redis.quarantine import RedisQuarantine
from turnstream.adapters.redis.server import Scripts, Server, patience_of
from turnstream.adapters.redis.session_reader import RedisReader
from turnstream.settings import Settings


class RedisBackend:
    """A deployment on a server that speaks the Redis protocol."""

    def __init__(self, server: Server) -> None:
        """Put the parts together; nothing is opened yet."""
        self.server = server
        self.partitions = len(server.keys.partitions)
        self._settling = None if server.settings.durability == "memory" else DurabilityGate(server)
        self.store = RedisStore(server, self._settling)
        self.reader = RedisReader(server)
        self.events = RedisEventLog(server)
        self.deployment = Deployment(server)
        self.queue = RedisQueue(server, self.deployment)
        self.quarantine = RedisQuarantine(server)
        self.channels = RedisChannels(server)
        self.subscriptions = RedisConsumerStore(server, self.channels)
        self.ownership = RedisOwnership(server, self.channels, self._settling, self.deployment)

    @classmethod
    async def open(
        cls, settings: Settings, name: str = "turnstream", *, throw_away: bool = False, works: bool = False
    ) -> "RedisBackend":
        """Connect to the server or servers that the settings name, and check them.

        Args:
            settings: the address of the server, and the properties of the deployment.
            name: the name in `CLIENT LIST`.
            throw_away: nothing is meant to be kept, so it is fine that the server does not.
            works: a worker will use it: it creates the deployment, and its user needs all permissions.

        Raises:
            Unavailable: no server answers there.
            ConfigurationError: the server or the deployment there does not fit.

        """
        backend = cls(server_at(settings, name))
        try:
            await check_servers(backend.server, throw_away=throw_away)
            if works:
                await backend.deployment.make()
                await backend.server.functions.keep(await backend.server.topology.primaries())
                await check_rights(backend.server)
            else:
                await backend.deployment.look_until_made()
        except BaseException:
            await backend.aclose()
            raise
        return backend

    async def aclose(self) -> None:
        """Close all connections but those of open subscriptions."""
        await self.deployment.aclose()
        await self.queue.aclose()
        if self._settling:
            await self._settling.aclose()
        await self.server.topology.aclose()


def server_at(settings: Settings, name: str) -> Server:
    """Read the URL of the settings; nothing is opened yet.

    Raises:
        ConfigurationError: the URL cannot be read, or the file with the password.

    """
    target = read_settings(settings, name)
    where, patience = settings.masked_url, patience_of(settings)
    if target.kind == "cluster":
        return Server(settings, Cluster(target, where, patience), scripts_for(settings, sharded=True))
    if target.kind == "sentinel":
        topology = Standalone(Sentinels(target, where, settings.heartbeat).open, where, patience)
        return Server(settings, topology, scripts_for(settings))
    return one_server(settings, target.connector(), scripts_for(settings))


def scripts_for(settings: Settings, *, sharded: bool = False) -> Scripts:
    """Return the scripts, called as the settings say."""
    kept = library() if settings.scripts == "functions" else None
    return Scripts(sharded=sharded, library=kept, patience=settings.response_timeout)


def one_server(settings: Settings, connect: Connector, scripts: Scripts, *, knows_replication: bool = True) -> Server:
    """Describe a server that is reached by these connections."""
    where = settings.masked_url
    topology = Standalone(partial(opened, connect, where), where, patience_of(settings))
    return Server(settings, topology, scripts, knows_replication=knows_replication)
