"""The repository as a partition's owner uses it (design §2, §3)."""

from redis.exceptions import ResponseError

from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.adapters.redis.loading import Reading
from turnstream.adapters.redis.retention import bytes_between_marks
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.settling import Settling, Untold
from turnstream.adapters.redis.writing import Keeping, Writing
from turnstream.errors import BatchRefused, Collision, Fenced, PartitionRefused
from turnstream.ports import Batch, Loaded, Needs

NOT_BEHIND = "equal or smaller than the target stream top item"
"""What the server says of an event under a sequence that is taken: a commit before was broken off half-way."""


class RedisStore:
    """Hashes, sorted sets and streams, read and written by two scripts."""

    def __init__(self, server: Server, settling: Settling | None) -> None:
        """Use a server; with `settling`, who is told of a batch is told by that."""
        self._server = server
        self._settling = settling
        settings = server.settings
        self._keeping = Keeping(settings.malformed_retention, bytes_between_marks(settings.event_retention_bytes))

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
            PartitionRefused: it met that at a key of the whole partition; nothing was written.
            Unavailable: the result is unknown.

        """
        server = self._server
        writing = Writing(server.keys, batch, server.buckets, self._keeping, tells=self._settling is None)
        number = batch.before.partition
        partition = server.partition(number)
        keys = server.declared(number, partition.partition, partition.events)
        try:
            await server.scripts.commit.run(server.calls(number), keys, writing.words)
        except ResponseError as error:
            raise _understood(error, number, partition) from None
        if self._settling:
            await self._settling.add(Untold(batch.after, writing.events_to_tell, writing.replies_to_tell))


def _understood(error: ResponseError, number: int, keys: PartitionKeys) -> Exception:
    """Return what an error of the commit script means."""
    text = str(error)
    code, _, reason = text.partition(" ")
    if code == "FENCED":
        return Fenced(number, reason)
    if code == "COLLISION":
        return Collision(number)
    if NOT_BEHIND in text:
        return Fenced(number, "events")
    key = reason.rpartition(" is a ")[0]
    refused = PartitionRefused if code == "BADBATCH" and keys.is_shared(key) else BatchRefused
    return refused(number, text)
