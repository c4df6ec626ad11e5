"""What a batch takes for new: the commit checks that it is, and most batches need no read at all (design §3).

A group is some fields, with their values, that none of its hashes has yet; the last of these gets them.
"""

from collections.abc import Sequence

from turnstream.adapters.redis.buckets import Buckets
from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.adapters.redis.topology.connection import Word
from turnstream.adapters.redis.words import MAX_WORDS
from turnstream.codec.records import encode_message, encode_outcome
from turnstream.ports import Batch, SessionWrite

MOST_WORDS = (MAX_WORDS - 2) // 2 * 2
"""Fields and values that one command takes."""


def write_new_fields(words: list[Word], keys: PartitionKeys, batch: Batch, buckets: Buckets) -> None:
    """Append the batch's outcomes and the messages that it takes for new, in groups, behind their number."""
    number = len(words)
    words.append(0)
    groups = _outcomes(words, keys, batch, buckets)
    for write in batch.writes:
        if write.unseen:
            groups += _messages(words, keys, write)
    words[number] = groups


def _outcomes(words: list[Word], keys: PartitionKeys, batch: Batch, buckets: Buckets) -> int:
    together: dict[int, list[Word]] = {}
    for recorded in batch.outcomes:
        pairs = together.setdefault(buckets.of(recorded.entry_ms), [])
        pairs += (recorded.command_id, encode_outcome(recorded.outcome))
    groups = 0
    for bucket, pairs in together.items():
        hashes = [keys.outcomes(seen_in) for seen_in in buckets.seen_by(bucket)]
        # In a batch that waited for long, some commands have left the window that ends at its last one.
        groups += _add(words, hashes, pairs, write=bucket >= buckets.first_kept(batch.after.cursor))
    return groups


def _messages(words: list[Word], keys: PartitionKeys, write: SessionWrite) -> int:
    hashes = (keys.messages(write.session_id),)
    kept = [] if write.cleared or write.after is None else [i for i in write.put if i in write.unseen]
    groups = _add(words, hashes, [word for i in kept for word in (i, encode_message(write.put[i]))])
    if len(kept) < len(write.unseen):
        # What the batch added and took away again must not have been there before either.
        gone = write.unseen.difference(kept)
        groups += _add(words, hashes, [word for i in gone for word in (i, "")], write=False)
    return groups


def _add(words: list[Word], hashes: Sequence[str], pairs: Sequence[Word], *, write: bool = True) -> int:
    """Append a group, or as many as it takes, and return how many."""
    starts = range(0, len(pairs), MOST_WORDS)
    for start in starts:
        portion = pairs[start : start + MOST_WORDS]
        words += (len(hashes), len(portion), int(write), *hashes, *portion)
    return len(starts)
