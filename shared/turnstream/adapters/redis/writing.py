"""A batch as the words of the commit script: what is written, in which order (design §3)."""

from collections.abc import Sequence

from turnstream.adapters.redis.buckets import Buckets
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.adapters.redis.words import WordList
from turnstream.codec.events import encode_event
from turnstream.codec.records import encode_changes, encode_message, encode_outcome, encode_type_sequences
from turnstream.codec.replies import encode_replies
from turnstream.domain.events import AnyEvent
from turnstream.ports import (
    Batch,
    MalformedEntry,
    PartitionState,
    RecordedOutcome,
    SessionWrite,
    StoredHeader,
    milliseconds,
)

MAX_KEPT_FIELDS = 50
MAX_KEPT_BYTES = 65_536
"""What is kept of a malformed entry: so many fields, and so many bytes of each."""


class Writing:
    """Turns a batch into the arguments of the commit script."""

    def __init__(self, keys: Keys, batch: Batch, buckets: Buckets, malformed_retention: int) -> None:
        """Write down the checks, then the writes; the cursor comes last."""
        self._all_keys = keys
        self._keys = keys.partitions[batch.before.partition]
        self._words = WordList(_checks(self._keys, batch))
        for write in batch.writes:
            self._session(write)
        for event in batch.events:
            self._event(event)
        self._outcomes(batch.outcomes, buckets)
        for entry in batch.malformed:
            self._malformed(entry, malformed_retention)
        self._cursor(batch, buckets)
        for channel, replies in batch.replies.items():
            self._words.add("PUBLISH", channel, encode_replies(replies))

    @property
    def words(self) -> list[str | bytes | int | float]:
        """The arguments of the script."""
        return self._words.words

    def _session(self, write: SessionWrite) -> None:
        keys, session_id = self._keys, write.session_id
        messages, order = keys.messages(session_id), keys.order(session_id)
        if write.after is None:
            self._words.add("UNLINK", keys.session(session_id), messages, order)
            self._words.add("ZREM", keys.index, session_id)
            return
        if write.cleared and write.before:
            self._words.add("UNLINK", messages, order)
        if write.removed:
            removed = list(write.removed)
            self._words.add_many(("HDEL", messages), removed)
            self._words.add_many(("ZREM", order), removed)
        self._messages(write, messages, order)
        self._header(write, write.after)

    def _messages(self, write: SessionWrite, messages: str, order: str) -> None:
        if write.put:
            bodies = [word for i, message in write.put.items() for word in (i, encode_message(message))]
            self._words.add_many(("HSET", messages), bodies, group=2)
        if write.placed:
            places = [word for i, position in write.placed.items() for word in (position, i)]
            self._words.add_many(("ZADD", order), places, group=2)

    def _header(self, write: SessionWrite, after: StoredHeader) -> None:
        self._words.add("HSET", self._keys.session(write.session_id), *encode_changes(write.before, after))
        self._words.add("ZADD", self._keys.index, milliseconds(after.header.updated_at), write.session_id)

    def _event(self, event: AnyEvent) -> None:
        payload = encode_event(event)
        sequence = event.meta.sequence if event.meta else 0
        self._words.add("XADD", self._keys.events, f"{sequence}-0", "event", payload)
        self._words.add("PUBLISH", self._all_keys.event_channel(event.type), payload)
        self._words.add("PUBLISH", self._all_keys.session_channel(event.session_id), payload)

    def _outcomes(self, outcomes: Sequence[RecordedOutcome], buckets: Buckets) -> None:
        records: dict[int, list[str | bytes | int | float]] = {}
        for recorded in outcomes:
            words = records.setdefault(buckets.of(recorded.entry_ms), [])
            words += (recorded.command_id, encode_outcome(recorded.outcome))
        for bucket, words in records.items():
            self._words.add_many(("HSET", self._keys.outcomes(bucket)), words, group=2)

    def _malformed(self, malformed: MalformedEntry, retention: int) -> None:
        kept = list(malformed.entry.fields.items())[:MAX_KEPT_FIELDS]
        fields = [part[:MAX_KEPT_BYTES] for pair in kept for part in pair]
        about = ("entryId", malformed.entry.entry_id, "error", malformed.error)
        self._words.add("XADD", self._keys.malformed, "MAXLEN", "~", retention, "*", *about, *fields)

    def _cursor(self, batch: Batch, buckets: Buckets) -> None:
        before, after = batch.before, batch.after
        expired = [self._keys.outcomes(bucket) for bucket in buckets.expired(before.cursor, after.cursor)]
        if expired:
            self._words.add("UNLINK", *expired)
        self._words.add("XTRIM", self._keys.commands, "MINID", _behind(after.cursor))
        self._words.add(
            *("HSET", self._keys.partition, "cursor", after.cursor),
            *("sequence", after.sequence, "types", encode_type_sequences(after.type_sequences)),
        )


def _checks(keys: PartitionKeys, batch: Batch) -> list[str | bytes | int | float]:
    before: PartitionState = batch.before
    words: list[str | bytes | int | float] = [
        *(before.token, before.replication_id, before.cursor, str(before.sequence), len(batch.writes)),
    ]
    for write in batch.writes:
        words += (keys.session(write.session_id), str(write.before.header.version) if write.before else "")
    return words


def _behind(cursor: str) -> str:
    """Return the stream id right behind a cursor: trimming up to the cursor itself would keep its entry."""
    time, _, number = cursor.partition("-")
    return f"{time}-{int(number) + 1}"
