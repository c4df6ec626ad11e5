"""The Redis adapter, put together."""

from turnstream.adapters.redis.buckets import Buckets
from turnstream.adapters.redis.channels import RedisChannels
from turnstream.adapters.redis.checks import check_deployment, check_server
from turnstream.adapters.redis.commands import RedisQueue
from turnstream.adapters.redis.connection import Connector, PipelinedConnection, connector
from turnstream.adapters.redis.keys import Keys
from turnstream.adapters.redis.ownership import RedisOwnership
from turnstream.adapters.redis.quarantine import RedisQuarantine
from turnstream.adapters.redis.reader import RedisReader
from turnstream.adapters.redis.scripting import Scripts
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.store import RedisStore
from turnstream.settings import Settings


class RedisBackend:
    """A deployment on a server that speaks the Redis protocol."""

    def __init__(self, server: Server) -> None:
        """Put the parts together; nothing is opened yet."""
        self.server = server
        self.partitions = len(server.keys.partitions)
        self.store = RedisStore(server)
        self.reader = RedisReader(server)
        self.queue = RedisQueue(server)
        self.quarantine = RedisQuarantine(server)
        self.channels = RedisChannels(server)
        self.ownership = RedisOwnership(server, self.channels)

    @classmethod
    async def open(cls, settings: Settings, name: str = "turnstream", *, throw_away: bool = False) -> "RedisBackend":
        """Connect to the server that the settings name, and check it.

        Args:
            settings: where the server is, and how the deployment is made.
            name: what `CLIENT LIST` shows.
            throw_away: nothing is meant to be kept, so it is fine that the server does not.

        Raises:
            Unavailable: nobody answers there.
            ConfigurationError: the server or the deployment there does not fit.

        """
        connect = connector(settings.redis_url.get_secret_value(), settings.connect_timeout, name)
        backend = cls(server_at(settings, connect, Scripts()))
        try:
            await check_server(backend.server.connection, settings.masked_url, throw_away=throw_away)
            await backend.check_deployment()
        except BaseException:
            await backend.aclose()
            raise
        return backend

    async def check_deployment(self) -> None:
        """Make the deployment if nobody has.

        Raises:
            ConfigurationError: it has another number of partitions or another layout.

        """
        server = self.server
        await check_deployment(server.connection, server.keys.layout, self.partitions, server.where)

    async def aclose(self) -> None:
        """Close all connections but those of open subscriptions."""
        await self.queue.aclose()
        await self.server.connection.aclose()


def server_at(settings: Settings, connect: Connector, scripts: Scripts, *, knows_replication: bool = True) -> Server:
    """Describe a server; nothing is opened yet."""
    return Server(
        connect=connect,
        where=settings.masked_url,
        connection=PipelinedConnection(connect, settings.masked_url, settings.response_timeout),
        keys=Keys(settings.namespace, settings.partitions),
        scripts=scripts,
        buckets=Buckets(settings.deduplication_window),
        settings=settings,
        knows_replication=knows_replication,
    )
