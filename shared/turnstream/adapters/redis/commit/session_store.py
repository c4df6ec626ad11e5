"""The repository as a partition's owner uses it (design §2, §3)."""

from collections.abc import Mapping

from redis.exceptions import ResponseError

from turnstream.adapters.redis.commit.batch_encoder import BatchEncoder, RetentionLimits
from turnstream.adapters.redis.commit.batch_loader import BatchLoader
from turnstream.adapters.redis.commit.durability_gate import DurabilityGate, PendingPublication
from turnstream.adapters.redis.failures import culprit
from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.adapters.redis.outcome_times import OutcomeBuckets
from turnstream.adapters.redis.retention import bytes_between_marks
from turnstream.adapters.redis.server import Server
from turnstream.errors import TurnstreamError
from turnstream.ports import Batch, Loaded, Needs, SessionStore
from turnstream.signals import BatchRefused, Collision, Fenced, PartitionRefused, TooLate

SEQUENCE_TAKEN = "equal or smaller than the target stream top item"
"""The error of the server for an event whose sequence is taken: an earlier commit was broken off half-way."""


class RedisStore(SessionStore):
    """Hashes, sorted sets and streams, read and written by two scripts."""

    def __init__(self, server: Server, gate: DurabilityGate | None) -> None:
        """Use a server; a `gate` publishes what a batch has to publish after the batch is durable."""
        self._server = server
        self._gate = gate
        settings = server.settings
        self._limits = RetentionLimits(
            settings.malformed_retention, bytes_between_marks(settings.event_retention_bytes)
        )

    async def load(self, partition: int, needs: Needs) -> Loaded:
        """Return what is stored of all that is needed.

        Raises:
            BatchRefused: something else is stored in its place.
            PartitionRefused: an unexpected value is stored at a key of the whole partition.

        """
        loader = BatchLoader(self._server.partition(partition), self._buckets(partition), needs)
        try:
            loader.take(await self._server.read(partition, loader.reads))
            if loader.read_tails():
                loader.take(await self._server.read(partition, loader.reads))
        except ResponseError as error:
            raise await self._refused(error, partition, needs.commands) from None
        return loader.loaded()

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
        server, number = self._server, batch.before.partition
        partition, clock, calls = server.partition(number), server.clock(number), server.calls(number)
        keys = server.declared(number, partition.partition, partition.events)
        buckets = server.buckets.at(clock.now()).for_batch(batch)
        encoder = BatchEncoder(server.keys, batch, buckets, self._limits, publishes=self._gate is None)
        try:
            script = server.scripts.commit_when_full if batch.frees else server.scripts.commit
            await script.run(calls, keys, encoder.words())
        except ResponseError as error:
            commands = {recorded.command_id: recorded.entry_ms for recorded in batch.outcomes}
            raise _understood(error, number, partition) or await self._refused(error, number, commands) from None
        clock.move(buckets.kept_by, from_id=buckets.kept_by == buckets.cursor_ms)
        if self._gate:
            waiting = PendingPublication(batch.after, encoder.events_to_publish, encoder.replies_to_publish)
            await self._gate.add(waiting)

    def _buckets(self, partition: int) -> OutcomeBuckets:
        return self._server.buckets.at(self._server.clock(partition).now())

    async def _refused(self, error: ResponseError, number: int, commands: Mapping[str, int]) -> BatchRefused:
        """Return what an error means that the scripts do not know: whose fault it is.

        Args:
            error: the error of the server.
            number: the partition.
            commands: the ids of commands whose outcomes were needed, and their entries' times in milliseconds.

        """
        keys, buckets = self._server.partition(number), self._buckets(number)
        outcomes = {keys.outcomes(bucket): "hash" for bucket in buckets.lookups(commands)}
        found = await culprit(self._server.calls(number), {**keys.types, **outcomes})
        return PartitionRefused(number, str(found)) if found else BatchRefused(number, str(error))


def _understood(error: ResponseError, number: int, keys: PartitionKeys) -> TurnstreamError | None:
    """Translate an error that the commit script itself has raised."""
    text = str(error)
    code, _, reason = text.partition(" ")
    if code == "FENCED":
        return Fenced(number, reason)
    if code == "COLLISION":
        return Collision(number)
    if code == "TOOLATE":
        return TooLate(number, int(reason))
    if SEQUENCE_TAKEN in text:
        return Fenced(number, "events")
    if code == "BADBATCH" and keys.is_shared(reason.rpartition(" is a ")[0]):
        return PartitionRefused(number, text)
    return None
