"""The repository as a partition's owner uses it (design §2, §3)."""

from collections.abc import Mapping

from redis.exceptions import ResponseError

from turnstream.adapters.redis.buckets import Buckets
from turnstream.adapters.redis.faults import culprit
from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.adapters.redis.loading import Reading
from turnstream.adapters.redis.retention import bytes_between_marks
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.settling import Settling, Untold
from turnstream.adapters.redis.writing import Keeping, Writing
from turnstream.errors import BatchRefused, Collision, Fenced, PartitionRefused, TooLate, TurnstreamError
from turnstream.ports import Batch, Loaded, Needs, entry_time

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
            PartitionRefused: something else stands at a key of the whole partition.

        """
        reading = Reading(self._server.partition(partition), self._buckets(partition), needs)
        try:
            reading.take(await self._server.read(partition, reading.reads))
            if reading.read_tails():
                reading.take(await self._server.read(partition, reading.reads))
        except ResponseError as error:
            raise await self._refused(error, partition, needs.commands) from None
        return reading.loaded()

    async def commit(self, batch: Batch) -> None:
        """Write a batch, all or nothing.

        Raises:
            Fenced: a check failed; nothing was written.
            TooLate: the batch's time is over; nothing was written.
            Collision: an outcome or an unseen message is stored already; nothing was written.
            BatchRefused: the script met something that it does not know; nothing was written.
            PartitionRefused: it met that at a key of the whole partition; nothing was written.
            ServerFull: there is no memory for it, and it does not end with what frees some; nothing was written.
            Unavailable: the result is unknown.

        """
        server = self._server
        number = batch.before.partition
        buckets = self._buckets(number)
        writing = Writing(server.keys, batch, buckets, self._keeping, tells=self._settling is None)
        partition = server.partition(number)
        keys = server.declared(number, partition.partition, partition.events)
        try:
            script = server.scripts.commit_when_full if batch.frees else server.scripts.commit
            await script.run(server.calls(number), keys, writing.words)
        except ResponseError as error:
            commands = {recorded.command_id: recorded.entry_ms for recorded in batch.outcomes}
            raise _understood(error, number, partition) or await self._refused(error, number, commands) from None
        told = entry_time(batch.after.cursor)
        kept_by = buckets.time(told)
        server.clock(number).move(kept_by, told=kept_by == told)
        if self._settling:
            await self._settling.add(Untold(batch.after, writing.events_to_tell, writing.replies_to_tell))

    def _buckets(self, partition: int) -> Buckets:
        return self._server.buckets.at(self._server.clock(partition).moment())

    async def _refused(self, error: ResponseError, number: int, commands: Mapping[str, int]) -> BatchRefused:
        """Return what an error means that the scripts do not know: whose fault it is.

        Args:
            error: what the server said.
            number: the partition.
            commands: the ids of commands whose outcomes were needed, and their entries' times in milliseconds.

        """
        keys, buckets = self._server.partition(number), self._buckets(number)
        outcomes = {keys.outcomes(bucket): "hash" for bucket in buckets.lookups(commands)}
        found = await culprit(self._server.calls(number), {**keys.types, **outcomes})
        return PartitionRefused(number, str(found)) if found else BatchRefused(number, str(error))


def _understood(error: ResponseError, number: int, keys: PartitionKeys) -> TurnstreamError | None:
    """Return what an error of the commit script means, if it is one of its own."""
    text = str(error)
    code, _, reason = text.partition(" ")
    if code == "FENCED":
        return Fenced(number, reason)
    if code == "COLLISION":
        return Collision(number)
    if code == "TOOLATE":
        return TooLate(number, int(reason))
    if NOT_BEHIND in text:
        return Fenced(number, "events")
    if code == "BADBATCH" and keys.is_shared(reason.rpartition(" is a ")[0]):
        return PartitionRefused(number, text)
    return None
