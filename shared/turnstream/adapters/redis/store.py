"""The repository as a partition's owner uses it (design §2, §3)."""

from redis.exceptions import ResponseError

from turnstream.adapters.redis.loading import Reading
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.writing import Writing
from turnstream.errors import BatchRefused, Collision, Fenced
from turnstream.ports import Batch, Loaded, Needs


class RedisStore:
    """Hashes, sorted sets and streams, read and written by two scripts."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    async def load(self, partition: int, needs: Needs) -> Loaded:
        """Return what is stored of all that is needed.

        Raises:
            BatchRefused: something else is stored in its place.

        """
        reading = Reading(self._server.partition(partition), self._server.buckets, needs)
        try:
            reading.take(await self._server.read(partition, reading.reads))
            if reading.read_tails():
                reading.take(await self._server.read(partition, reading.reads))
        except ResponseError as error:
            raise BatchRefused(partition, str(error)) from None
        return reading.loaded()

    async def commit(self, batch: Batch) -> None:
        """Write a batch, all or nothing.

        Raises:
            Fenced: a check failed; nothing was written.
            Collision: an outcome or an unseen message is stored already; nothing was written.
            BatchRefused: the script met something that it does not know; nothing was written.
            Unavailable: the result is unknown.

        """
        server = self._server
        writing = Writing(server.keys, batch, server.buckets, server.settings.malformed_retention)
        number = batch.before.partition
        partition = server.partition(number)
        keys = server.declared(number, partition.partition, partition.events)
        try:
            await server.scripts.commit.run(server.calls(number), keys, writing.words)
        except ResponseError as error:
            code, _, reason = str(error).partition(" ")
            if code == "FENCED":
                raise Fenced(batch.before.partition, reason) from None
            if code == "COLLISION":
                raise Collision(batch.before.partition) from None
            raise BatchRefused(batch.before.partition, str(error)) from None
