"""A batch as the words of the commit script: what is written, in which order (design §3)."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from turnstream.adapters.redis.buckets import Buckets
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.adapters.redis.new_fields import write_new_fields
from turnstream.adapters.redis.parking import ENTRY_ID, write_parking
from turnstream.adapters.redis.topology.connection import Word
from turnstream.adapters.redis.words import WordList
from turnstream.codec.events import encode_event
from turnstream.codec.records import encode_changes, encode_message, encode_type_sequences
from turnstream.codec.replies import encode_replies
from turnstream.domain.events import AnyEvent
from turnstream.ports import (
    Batch,
    MalformedEntry,
    PartitionState,
    SessionWrite,
    StoredHeader,
    entry_time,
    milliseconds,
)

LAST_PART = 2**64 - 1
"""The largest number that either part of a stream's id can be."""


class Keeping(NamedTuple):
    """How many malformed entries are kept, and the bytes of events after which a mark is left for retention."""

    malformed: int
    between_marks: int


class Writing:
    """Turns a batch into the arguments of the commit script."""

    def __init__(self, keys: Keys, batch: Batch, buckets: Buckets, keeping: Keeping, *, tells: bool = True) -> None:
        """Write down the checks, then the writes; the cursor comes last.

        Unless it `tells`, nothing is published: `events_to_tell` and `replies_to_tell` hold channels and payloads.
        """
        self._all_keys = keys
        self._tells = tells
        self.events_to_tell: list[Word] = []
        self.replies_to_tell: list[Word] = []
        self._keys = keys.partitions[batch.before.partition]
        self._words = WordList(_checks(self._keys, batch, keeping.between_marks))
        write_new_fields(self._words.words, self._keys, batch, buckets)
        self._events(batch.events)
        for write in batch.writes:
            self._session(write)
        for entry in batch.malformed:
            self._malformed(entry, keeping.malformed)
        if batch.parking:
            write_parking(self._words, self._keys, batch.parking, buckets)
        self._cursor(batch, buckets)
        for channel, replies in batch.replies.items():
            if tells:
                self._words.add(keys.publish, channel, encode_replies(replies))
            else:
                self.replies_to_tell += (channel, encode_replies(replies))

    @property
    def words(self) -> list[Word]:
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
        rewritten = write.put.keys() if write.cleared else write.put.keys() - write.unseen
        if rewritten:
            bodies = [word for i in rewritten for word in (i, encode_message(write.put[i]))]
            self._words.add_many(("HSET", messages), bodies, group=2)
        if write.placed:
            places = [word for i, position in write.placed.items() for word in (position, i)]
            self._words.add_many(("ZADD", order), places, group=2)

    def _header(self, write: SessionWrite, after: StoredHeader) -> None:
        self._words.add("HSET", self._keys.session(write.session_id), *encode_changes(write.before, after))
        self._words.add("ZADD", self._keys.index, milliseconds(after.header.updated_at), write.session_id)

    def _events(self, events: Sequence[AnyEvent]) -> None:
        words = self._words.words
        words.append(len(events))
        for event in events:
            sequence = event.meta.sequence if event.meta else 0
            channels = self._all_keys.live_channels(self._keys, event.type, event.session_id)
            payload = encode_event(event)
            if self._tells:
                words += (f"{sequence}-0", *channels, payload)
            else:
                words += (f"{sequence}-0", "", "", payload)
                self.events_to_tell += told(channels, payload)

    def _malformed(self, malformed: MalformedEntry, retention: int) -> None:
        fields = chain.from_iterable(malformed.shortened().entry.fields.items())
        about = (ENTRY_ID, malformed.entry.entry_id, "error", malformed.error)
        self._words.add("XADD", self._keys.malformed, "MAXLEN", "~", retention, "*", *about, *fields)

    def _cursor(self, batch: Batch, buckets: Buckets) -> None:
        before, after = batch.before, batch.after
        expired = [self._keys.outcomes(bucket) for bucket in buckets.expired(before.cursor, after.cursor)]
        if expired:
            self._words.add("UNLINK", *expired)
        self._words.add("XTRIM", self._keys.commands, *_up_to(after.cursor))
        told = entry_time(after.cursor)
        kept_by = buckets.time(told)
        self._words.add(
            *("HSET", self._keys.partition, "cursor", after.cursor),
            *("sequence", after.sequence, "types", encode_type_sequences(after.type_sequences), "passed", after.passed),
            *(() if kept_by == told else ("outcomesAt", kept_by)),
        )


def told(channels: tuple[str, str], payload: bytes) -> list[Word]:
    """Return a payload on its channels, as the script `settle` takes it."""
    return [word for channel in channels if channel for word in (channel, payload)]


def _checks(keys: PartitionKeys, batch: Batch, between_marks: int) -> list[Word]:
    before: PartitionState = batch.before
    words: list[Word] = [
        *(before.token, before.replication_id, before.cursor, str(before.sequence)),
        *("" if batch.until is None else batch.until, between_marks, len(batch.writes)),
    ]
    for write in batch.writes:
        words += (keys.session(write.session_id), str(write.before.header.version) if write.before else "")
    return words


def _up_to(cursor: str) -> tuple[str, str]:
    """Return how to trim a stream up to a cursor and with it: its own id as the least would keep its entry."""
    time, _, number = cursor.partition("-")
    if int(number) < LAST_PART:
        return "MINID", f"{time}-{int(number) + 1}"
    # Anybody may write an entry under such an id, and no other can follow it within its millisecond; or at all.
    return ("MINID", f"{int(time) + 1}-0") if int(time) < LAST_PART else ("MAXLEN", "0")
