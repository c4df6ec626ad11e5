"""The repository as a partition's owner uses it (design §2, §3)."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain

from turnstream.adapters.memory.batch_encoder import BatchEncoder
from turnstream.adapters.memory.channels import MemoryChannels
from turnstream.adapters.memory.partition import REPLICATION_ID, Partition, StoredSession
from turnstream.adapters.memory.stream import now
from turnstream.codec.records import decode_outcome
from turnstream.ports import Batch, Loaded, LoadedSession, Needs, Outcome, SessionNeeds, SessionStore, SessionWrite
from turnstream.signals import Collision, Fenced, TooLate


class MemoryStore(SessionStore):
    """Reads and writes partitions; nothing else runs between a commit's checks and its last write."""

    def __init__(self, partitions: Sequence[Partition], channels: MemoryChannels) -> None:
        """Write these partitions, and announce what was written."""
        self._partitions = partitions
        self._channels = channels

    async def load(self, partition: int, needs: Needs) -> Loaded:
        """Return what is stored of all that is needed."""
        stored = self._partitions[partition]
        sessions = {i: _loaded(stored.sessions.get(i), wanted) for i, wanted in needs.sessions.items()}
        return Loaded(sessions, dict(_outcomes(stored, needs)))

    async def commit(self, batch: Batch) -> None:
        """Write a batch, all or nothing.

        Raises:
            Fenced: a check failed; nothing was written.
            TooLate: the batch's time is over; nothing was written.
            Collision: an outcome or an unseen message is stored already; nothing was written.

        """
        # A worker with a backlog waits for nothing else: others need a turn, and before the write it can be cancelled.
        await asyncio.sleep(0)
        partition = self._partitions[batch.before.partition]
        reason = next(_refusals(partition, batch), None)
        if reason:
            raise Fenced(partition.number, reason)
        if batch.until is not None and (now_ms := now()) >= batch.until:
            raise TooLate(partition.number, now_ms)
        if _collides(partition, batch):
            raise Collision(partition.number)
        writing = BatchEncoder(batch)
        writing.apply(partition)
        for channel, payload in writing.announcements:
            self._channels.publish(channel, payload)


def _refusals(partition: Partition, batch: Batch) -> Iterator[str]:
    before = batch.before
    if before.token != partition.token:
        yield "token"
    if before.replication_id != REPLICATION_ID:
        yield "replid"
    if before.cursor != partition.cursor:
        yield "cursor"
    if before.sequence != partition.sequence:
        yield "sequence"
    if any(_expected(write) != _version(partition, write.session_id) for write in batch.writes):
        yield "version"


def _collides(partition: Partition, batch: Batch) -> bool:
    known = (partition.outcomes.find(recorded.command_id, recorded.entry_ms) for recorded in batch.outcomes)
    sessions = ((partition.sessions.get(write.session_id), write.unseen) for write in batch.writes)
    return any(outcome is not None for outcome in known) or any(
        session is not None and not unseen.isdisjoint(session.messages) for session, unseen in sessions
    )


def _expected(write: SessionWrite) -> bytes | None:
    return str(write.before.header.version).encode() if write.before else None


def _version(partition: Partition, session_id: str) -> bytes | None:
    session = partition.sessions.get(session_id)
    return session.header[b"version"] if session else None


def _loaded(session: StoredSession | None, wanted: SessionNeeds) -> LoadedSession:
    if session is None:
        return LoadedSession(None, {})
    tail = [message_id for _, message_id in session.order.between(None, None, wanted.tail, from_end=True)]
    messages = session.decoded(chain(wanted.message_ids, tail))
    header = session.decoded_header() if wanted.header else None
    return LoadedSession(header, messages, tuple(messages[message_id] for message_id in tail))


def _outcomes(partition: Partition, needs: Needs) -> Iterator[tuple[str, Outcome]]:
    for command_id, entry_ms in needs.commands.items():
        record = partition.outcomes.find(command_id, entry_ms)
        if record is not None:
            yield command_id, decode_outcome(record)
