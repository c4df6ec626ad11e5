"""A batch as the arguments of the commit script (design §3): first the checks, then the events, then the writes."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from turnstream.adapters.redis.connection.pipelined import Word
from turnstream.adapters.redis.keys import Keys, SessionKeys
from turnstream.adapters.redis.outcome_times import BatchBuckets
from turnstream.adapters.redis.server import MAX_WORDS, ScriptArgs
from turnstream.codec.records import (
    encode_changes,
    encode_message,
    encode_outcome,
    encode_parked_session,
    encode_replies,
    encode_type_sequences,
    milliseconds,
)
from turnstream.ports import (
    Batch,
    MalformedEntry,
    ParkedCommand,
    ParkingChanges,
    RawEntry,
    RecordedOutcome,
    SessionWrite,
)

LAST_PART = 2**64 - 1
"""The largest number that either part of a stream's id can be."""

FIELDS_PER_GROUP = (MAX_WORDS - 2) // 2 * 2
"""Fields and values that one command takes."""

ENTRY_ID = "entryId"
"""The first field of a parked or malformed entry: the id that it had in the command stream."""


class RetentionLimits(NamedTuple):
    """How many malformed entries are kept, and the bytes of events between two marks for retention."""

    malformed: int
    between_marks: int


class Write(NamedTuple):
    """A command for the script to run: its first words, and items that may be too many for one command.

    `group` items belong together and stay in one command.
    """

    head: tuple[Word, ...]
    items: Sequence[Word] = ()
    group: int = 1


class BatchEncoder:
    """The arguments of the commit script for one batch."""

    def __init__(
        self, keys: Keys, batch: Batch, buckets: BatchBuckets, limits: RetentionLimits, *, publishes: bool = True
    ) -> None:
        """Encode the batch. Encoding fails before anything is written, so no part of a batch can fail half-way.

        Args:
            keys: the keys of the deployment.
            batch: the batch.
            buckets: the buckets of the batch's outcomes.
            limits: the limits for malformed entries and events.
            publishes: False leaves publishing to the caller: `events_to_publish` and `replies_to_publish` then hold
                channels and payloads, one after the other.

        """
        self.events_to_publish: list[Word] = []
        self.replies_to_publish: list[Word] = []
        self._batch = batch
        self._publishes = publishes
        self._buckets = buckets
        self._keys = keys.partitions[batch.before.partition]
        self._sessions = [self._keys.of_session(write.session_id) for write in batch.writes]
        self._outcome_keys = {
            bucket: [self._keys.outcomes(earlier) for earlier in lookup]
            for bucket, lookup in self._buckets.lookups.items()
        }
        self._expired = [self._keys.outcomes(bucket) for bucket in self._buckets.expired]
        self._channels = [keys.live_channels(self._keys, event.type, event.session_id) for event in batch.events]
        self._payloads = [event.to_json() for event in batch.events]
        self._headers = [
            (encode_changes(write.before, after), milliseconds(after.header.updated_at))
            if (after := write.after)
            else None
            for write in batch.writes
        ]
        self._replies = {channel: encode_replies(replies) for channel, replies in batch.replies.items()}
        self._words = self._checks(limits.between_marks)
        self._writes: list[Write] = []
        self._add_insertions()
        self._add_events()
        for write, session, header in zip(batch.writes, self._sessions, self._headers, strict=True):
            self._write_session(write, session, header)
        for entry in batch.malformed:
            self._write_malformed(entry, limits.malformed)
        if batch.parking:
            self._write_parking(batch.parking)
        self._write_cursor()
        self._write_replies(keys.publish)

    def words(self) -> list[Word]:
        """Return the arguments of the script."""
        arguments = ScriptArgs(self._words)
        arguments.add_all(self._writes)
        return arguments.words

    def _checks(self, between_marks: int) -> list[Word]:
        before, until = self._batch.before, self._batch.until
        words: list[Word] = [
            *(before.token, before.replication_id, before.cursor, str(before.sequence)),
            *("" if until is None else until, between_marks, len(self._batch.writes)),
        ]
        for write, session in zip(self._batch.writes, self._sessions, strict=True):
            words += (session.header, str(write.before.header.version) if write.before else "")
        return words

    # ── insertions: fields that none of some hashes has yet; the last of these hashes gets them ──

    def _add_insertions(self) -> None:
        """Add the batch's outcomes and new messages. The script checks that they are new, so most batches read nothing.

        The number of groups comes first.
        """
        number = len(self._words)
        self._words.append(0)
        groups = self._insert_outcomes(self._batch.outcomes)
        for write, session in zip(self._batch.writes, self._sessions, strict=True):
            if write.unseen:
                groups += self._insert_messages(write, session.messages)
        self._words[number] = groups

    def _insert_outcomes(self, outcomes: Sequence[RecordedOutcome]) -> int:
        by_bucket: dict[int, list[Word]] = {}
        for recorded in outcomes:
            pairs = by_bucket.setdefault(self._buckets.of[recorded.entry_ms], [])
            pairs += (recorded.command_id, encode_outcome(recorded.outcome))
        # In a batch that waited for long, some commands have left the window that ends at its last one.
        return sum(
            self._insert(self._outcome_keys[bucket], pairs, write=bucket >= self._buckets.first_kept)
            for bucket, pairs in by_bucket.items()
        )

    def _insert_messages(self, write: SessionWrite, key: str) -> int:
        kept = [] if write.cleared or write.after is None else [i for i in write.put if i in write.unseen]
        groups = self._insert((key,), [word for i in kept for word in (i, encode_message(write.put[i]))])
        if len(kept) < len(write.unseen):
            # A message that the batch added and removed again must not have been there before either.
            gone = write.unseen.difference(kept)
            groups += self._insert((key,), [word for i in gone for word in (i, "")], write=False)
        return groups

    def _insert(self, hashes: Sequence[str], pairs: Sequence[Word], *, write: bool = True) -> int:
        """Add a group, or as many as one command's limit makes of it, and return how many."""
        starts = range(0, len(pairs), FIELDS_PER_GROUP)
        for start in starts:
            portion = pairs[start : start + FIELDS_PER_GROUP]
            self._words += (len(hashes), len(portion), int(write), *hashes, *portion)
        return len(starts)

    # ── events ──

    def _add_events(self) -> None:
        self._words.append(len(self._batch.events))
        for event, channels, payload in zip(self._batch.events, self._channels, self._payloads, strict=True):
            sequence = event.meta.sequence if event.meta else 0
            if self._publishes:
                self._words += (f"{sequence}-0", *channels, payload)
            else:
                self._words += (f"{sequence}-0", "", "", payload)
                self.events_to_publish += publications(channels, payload)

    # ── writes ──

    def _add(self, *command: Word) -> None:
        self._writes.append(Write(command))

    def _write_session(self, write: SessionWrite, keys: SessionKeys, header: tuple[Sequence[Word], int] | None) -> None:
        if header is None:
            self._add("UNLINK", keys.header, keys.messages, keys.order)
            self._add("ZREM", self._keys.index, write.session_id)
            return
        if write.cleared and write.before:
            self._add("UNLINK", keys.messages, keys.order)
        if write.removed:
            removed = list(write.removed)
            self._writes += (Write(("HDEL", keys.messages), removed), Write(("ZREM", keys.order), removed))
        self._write_messages(write, keys)
        changes, updated_ms = header
        self._add("HSET", keys.header, *changes)
        self._add("ZADD", self._keys.index, updated_ms, write.session_id)

    def _write_messages(self, write: SessionWrite, keys: SessionKeys) -> None:
        rewritten = write.put.keys() if write.cleared else write.put.keys() - write.unseen
        if rewritten:
            bodies = [word for i in rewritten for word in (i, encode_message(write.put[i]))]
            self._writes.append(Write(("HSET", keys.messages), bodies, group=2))
        if write.placed:
            positions = [word for i, position in write.placed.items() for word in (position, i)]
            self._writes.append(Write(("ZADD", keys.order), positions, group=2))

    def _write_malformed(self, malformed: MalformedEntry, retention: int) -> None:
        fields = chain.from_iterable(malformed.shortened().entry.fields.items())
        about = (ENTRY_ID, malformed.entry.entry_id, "error", malformed.error)
        self._add("XADD", self._keys.malformed, "MAXLEN", "~", retention, "*", *about, *fields)

    def _write_parking(self, changes: ParkingChanges) -> None:
        """Write the queues, then the registry, then the outcomes that replace those that said `parked`."""
        keys = self._keys
        # These two change nothing, but the script checks the types of the keys. A fault of the whole partition must
        # not look like the fault of one session after another.
        self._add("ZREM", keys.index, "")
        self._add("XTRIM", keys.events, "MINID", 0)
        for command in changes.queued:
            fields = chain.from_iterable(command.entry.fields.items())
            self._add("XADD", keys.queue(command.session_id), "*", ENTRY_ID, command.entry.entry_id, *fields)
        taken: dict[str, list[str]] = {}
        for command in changes.taken:
            taken.setdefault(command.session_id, []).append(command.queue_id)
        self._writes += (Write(("XDEL", keys.queue(session_id)), ids) for session_id, ids in taken.items())
        for session_id, session in changes.sessions.items():
            if session is None:
                self._add("HDEL", keys.parked, session_id)
                self._add("UNLINK", keys.queue(session_id))
            else:
                self._add("HSET", keys.parked, session_id, encode_parked_session(session))
        for recorded in changes.outcomes:
            bucket = self._outcome_keys[self._buckets.of[recorded.entry_ms]][-1]
            self._add("HSET", bucket, recorded.command_id, encode_outcome(recorded.outcome))

    def _write_cursor(self) -> None:
        after, buckets = self._batch.after, self._buckets
        if self._expired:
            self._add("UNLINK", *self._expired)
        self._add("XTRIM", self._keys.commands, *_up_to(after.cursor))
        self._add(
            *("HSET", self._keys.partition, "cursor", after.cursor),
            *("sequence", after.sequence, "types", encode_type_sequences(after.type_sequences), "passed", after.passed),
            *(() if buckets.kept_by == buckets.cursor_ms else ("outcomesAt", buckets.kept_by)),
        )

    def _write_replies(self, publish: str) -> None:
        for channel, payload in self._replies.items():
            if self._publishes:
                self._add(publish, channel, payload)
            else:
                self.replies_to_publish += (channel, payload)


def publications(channels: tuple[str, str], payload: bytes) -> list[Word]:
    """Return a payload with each of its channels, as the script `settle` takes it."""
    return [word for channel in channels if channel for word in (channel, payload)]


def parked_command(session_id: str, queue_id: bytes, words: Sequence[bytes]) -> ParkedCommand:
    """Return a command as it is kept in the queue of its session."""
    entry_id, pairs = words[1], words[2:]
    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return ParkedCommand(session_id, RawEntry(entry_id.decode(), fields), queue_id.decode())


def _up_to(cursor: str) -> tuple[str, str]:
    """Return how to trim a stream up to and including a cursor: with its own id as the least, its entry would stay."""
    time, _, number = cursor.partition("-")
    if int(number) < LAST_PART:
        return "MINID", f"{time}-{int(number) + 1}"
    # A producer may write an entry under such an id, and no other can follow it within its millisecond, or at all.
    return ("MINID", f"{int(time) + 1}-0") if int(time) < LAST_PART else ("MAXLEN", "0")
