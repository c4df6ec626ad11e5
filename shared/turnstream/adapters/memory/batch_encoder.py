"""A batch, encoded before anything is written, so that no part of it can fail half-way (design §3)."""

import msgspec

from turnstream.adapters.memory.channels import event_channel, session_channel
from turnstream.adapters.memory.partition import Partition, StoredEvent, StoredSession
from turnstream.codec.records import (
    Field,
    encode_changes,
    encode_message,
    encode_outcome,
    encode_replies,
    encode_type_sequences,
    milliseconds,
)
from turnstream.domain.events import AnyEvent
from turnstream.ports import Batch, SessionWrite, StoredHeader


class EncodedSession(msgspec.Struct, frozen=True):
    """The result of a write for a session: header fields, message bodies, and its index entry."""

    header: dict[bytes, bytes]
    messages: dict[str, bytes]
    updated_ms: int


class BatchEncoder:
    """Writes a batch; `announcements` are the payloads that are then to be published, by channel."""

    def __init__(self, batch: Batch) -> None:
        """Encode everything."""
        self.announcements: list[tuple[str, bytes]] = []
        self._batch = batch
        self._sessions = [(write, _session(write, write.after)) for write in batch.writes]
        self._events = [self._event(event) for event in batch.events]
        self._outcomes = [(r.command_id, r.entry_ms, encode_outcome(r.outcome)) for r in batch.outcomes]
        self._malformed = [entry.shortened() for entry in batch.malformed]
        overwritten = batch.parking.outcomes if batch.parking else ()
        self._overwritten = [(r.command_id, r.entry_ms, encode_outcome(r.outcome)) for r in overwritten]
        self._type_sequences = encode_type_sequences(batch.after.type_sequences)
        self.announcements += ((channel, encode_replies(replies)) for channel, replies in batch.replies.items())

    def apply(self, partition: Partition) -> None:
        """Write it all; the cursor comes last."""
        for write, encoded in self._sessions:
            _write(partition, write, encoded)
        partition.events.extend(self._events)
        partition.event_bytes += sum(len(event.payload) for event in self._events)
        for recorded in (*self._outcomes, *self._overwritten):
            partition.outcomes.record(*recorded)
        if self._batch.parking:
            partition.parked.apply(self._batch.parking)
        partition.malformed.extend(self._malformed)
        self._advance(partition)

    def _event(self, event: AnyEvent) -> StoredEvent:
        payload = event.to_json()
        self.announcements.append((event_channel(event.type), payload))
        self.announcements.append((session_channel(event.session_id), payload))
        return StoredEvent(event.meta.sequence if event.meta else 0, payload)

    def _advance(self, partition: Partition) -> None:
        after = self._batch.after
        partition.outcomes.forget(after.cursor)
        partition.commands.drop(after.cursor)
        partition.sequence = after.sequence
        partition.type_sequences = self._type_sequences
        partition.cursor = after.cursor
        partition.passed = after.passed


def _session(write: SessionWrite, after: StoredHeader | None) -> EncodedSession | None:
    if after is None:
        return None
    words = [_word(field) for field in encode_changes(write.before, after)]
    return EncodedSession(
        header=dict(zip(words[::2], words[1::2], strict=True)),
        messages={message_id: encode_message(message) for message_id, message in write.put.items()},
        updated_ms=milliseconds(after.header.updated_at),
    )


def _write(partition: Partition, write: SessionWrite, encoded: EncodedSession | None) -> None:
    if encoded is None:
        partition.sessions.pop(write.session_id, None)
        partition.index.remove(write.session_id)
        return
    session = partition.sessions.setdefault(write.session_id, StoredSession())
    if write.cleared:
        session.clear()
    for message_id in write.removed:
        session.remove(message_id)
    session.messages.update(encoded.messages)
    for message_id, position in write.placed.items():
        session.order.put(message_id, position)
    session.header.update(encoded.header)
    partition.index.put(write.session_id, encoded.updated_ms)


def _word(field: Field) -> bytes:
    return field if isinstance(field, bytes) else str(field).encode()
