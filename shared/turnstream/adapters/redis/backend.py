"""The Redis adapter, put together."""

from functools import partial

from turnstream.adapters.redis.channels import RedisChannels
from turnstream.adapters.redis.checks import check_deployment, check_rights, check_servers
from turnstream.adapters.redis.commands import RedisQueue
from turnstream.adapters.redis.event_log import RedisEventLog
from turnstream.adapters.redis.library import library
from turnstream.adapters.redis.ownership import RedisOwnership
from turnstream.adapters.redis.quarantine import RedisQuarantine
from turnstream.adapters.redis.reader import RedisReader
from turnstream.adapters.redis.scripting import Scripts
from turnstream.adapters.redis.server import Server, patience_of
from turnstream.adapters.redis.settling import Settling
from turnstream.adapters.redis.store import RedisStore
from turnstream.adapters.redis.subscriptions import RedisSubscriptions
from turnstream.adapters.redis.topology.addresses import read_url
from turnstream.adapters.redis.topology.cluster import Cluster
from turnstream.adapters.redis.topology.connection import Connector, opened
from turnstream.adapters.redis.topology.routing import OneServer
from turnstream.adapters.redis.topology.sentinel import Sentinels
from turnstream.settings import Settings


class RedisBackend:
    """A deployment on a server that speaks the Redis protocol."""

    def __init__(self, server: Server) -> None:
        """Put the parts together; nothing is opened yet."""
        self.server = server
        self.partitions = len(server.keys.partitions)
        self._settling = None if server.settings.durability == "memory" else Settling(server)
        self.store = RedisStore(server, self._settling)
        self.reader = RedisReader(server)
        self.events = RedisEventLog(server)
        self.queue = RedisQueue(server)
        self.quarantine = RedisQuarantine(server)
        self.channels = RedisChannels(server)
        self.subscriptions = RedisSubscriptions(server, self.channels)
        self.ownership = RedisOwnership(server, self.channels, self._settling)

    @classmethod
    async def open(
        cls, settings: Settings, name: str = "turnstream", *, throw_away: bool = False, works: bool = False
    ) -> "RedisBackend":
        """Connect to the server or servers that the settings name, and check them.

        Args:
            settings: where the server is, and how the deployment is made.
            name: what `CLIENT LIST` shows.
            throw_away: nothing is meant to be kept, so it is fine that the server does not.
            works: a worker will use it, so its user must have the rights of one.

        Raises:
            Unavailable: nobody answers there.
            ConfigurationError: the server or the deployment there does not fit.

        """
        backend = cls(server_at(settings, name))
        try:
            await check_servers(backend.server, throw_away=throw_away)
            await backend.check_deployment()
            if works:
                await check_rights(backend.server)
                await backend.server.functions.keep(await backend.server.topology.primaries())
        except BaseException:
            await backend.aclose()
            raise
        return backend

    async def check_deployment(self) -> None:
        """Make the deployment if nobody has.

        Raises:
            ConfigurationError: it has another number of partitions or another layout.

        """
        await check_deployment(self.server)

    async def aclose(self) -> None:
        """Close all connections but those of open subscriptions."""
        await self.queue.aclose()
        if self._settling:
            await self._settling.aclose()
        await self.server.topology.aclose()


def server_at(settings: Settings, name: str) -> Server:
    """Read the URL of the settings; nothing is opened yet.

    Raises:
        ConfigurationError: the URL cannot be read.

    """
    target = read_url(settings.redis_url.get_secret_value(), settings.connect_timeout, name, settings.heartbeat)
    where, patience = settings.masked_url, patience_of(settings)
    if target.kind == "cluster":
        return Server(settings, Cluster(target, where, patience), scripts_for(settings, sharded=True))
    if target.kind == "sentinel":
        topology = OneServer(Sentinels(target, where, settings.heartbeat).open, where, patience)
        return Server(settings, topology, scripts_for(settings))
    return one_server(settings, target.connector(), scripts_for(settings))


def scripts_for(settings: Settings, *, sharded: bool = False) -> Scripts:
    """Return the scripts, called as the settings say."""
    kept = library() if settings.scripts == "functions" else None
    return Scripts(sharded=sharded, library=kept, patience=settings.response_timeout)


def one_server(settings: Settings, connect: Connector, scripts: Scripts, *, knows_replication: bool = True) -> Server:
    """Describe a server that is reached by these connections."""
    where = settings.masked_url
    topology = OneServer(partial(opened, connect, where), where, patience_of(settings))
    return Server(settings, topology, scripts, knows_replication=knows_replication)
