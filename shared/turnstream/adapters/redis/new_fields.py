"""What a batch takes for new: the commit checks that it is, and most batches need no read at all (design §3)."""

from collections.abc import Iterator, Sequence

import msgspec

from turnstream.adapters.redis.buckets import Buckets
from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.adapters.redis.topology.connection import Word
from turnstream.adapters.redis.words import MAX_WORDS
from turnstream.codec.records import encode_message, encode_outcome
from turnstream.ports import Batch, SessionWrite


class NewFields(msgspec.Struct, frozen=True):
    """Fields and values, one after the other: none of the hashes has such a field yet; the last one gets them."""

    keys: Sequence[str]
    pairs: Sequence[Word]
    write: bool = True


def new_fields(keys: PartitionKeys, batch: Batch, buckets: Buckets) -> list[NewFields]:
    """Return the batch's outcomes and the messages that it takes for new, in groups that one command can take."""
    groups = [*_outcomes(keys, batch, buckets)]
    for write in batch.writes:
        if write.unseen:
            groups += _messages(keys, write)
    return [portion for group in groups for portion in _portions(group)]


def _outcomes(keys: PartitionKeys, batch: Batch, buckets: Buckets) -> Iterator[NewFields]:
    together: dict[int, list[Word]] = {}
    for recorded in batch.outcomes:
        pairs = together.setdefault(buckets.of(recorded.entry_ms), [])
        pairs += (recorded.command_id, encode_outcome(recorded.outcome))
    first_kept = buckets.first_kept(batch.after.cursor)
    for bucket, pairs in together.items():
        # In a batch that waited for long, some commands have left the window that ends at its last one.
        kept = bucket >= first_kept
        yield NewFields([keys.outcomes(seen_in) for seen_in in buckets.seen_by(bucket)], pairs, write=kept)


def _messages(keys: PartitionKeys, write: SessionWrite) -> Iterator[NewFields]:
    hashes = [keys.messages(write.session_id)]
    kept = [] if write.cleared or write.after is None else [i for i in write.put if i in write.unseen]
    yield NewFields(hashes, [word for i in kept for word in (i, encode_message(write.put[i]))])
    if len(kept) < len(write.unseen):
        # What the batch added and took away again must not have been there before either.
        gone = write.unseen.difference(kept)
        yield NewFields(hashes, [word for i in gone for word in (i, "")], write=False)


def _portions(group: NewFields) -> Iterator[NewFields]:
    step = (MAX_WORDS - 2) // 2 * 2
    for start in range(0, len(group.pairs), step):
        yield NewFields(group.keys, group.pairs[start : start + step], group.write)
