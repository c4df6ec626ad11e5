"""What a batch changes of what is parked, as words of the commit script (design §4)."""

from collections.abc import Sequence
from itertools import chain

from turnstream.adapters.redis.buckets import Buckets
from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.adapters.redis.words import WordList
from turnstream.codec.records import encode_outcome, encode_parked_session
from turnstream.ports import Batch, ParkedCommand, ParkingChanges, RawEntry

ENTRY_ID = "entryId"
"""The first field of a parked or malformed entry: the id that it had in the command stream."""


def write_parking(
    words: WordList, keys: PartitionKeys, batch: Batch, changes: ParkingChanges, buckets: Buckets
) -> None:
    """Write the queues, then the registry, then the outcomes that replace those that said `parked`."""
    # They change nothing, but the script checks the keys' types: what is wrong with the whole partition must not look
    # like the fault of one session after another.
    words.add("ZREM", keys.index, "")
    words.add("XTRIM", keys.events, "MINID", 0)
    for command in changes.queued:
        fields = chain.from_iterable(command.entry.fields.items())
        words.add("XADD", keys.queue(command.session_id), "*", ENTRY_ID, command.entry.entry_id, *fields)
    _take(words, keys, changes)
    for session_id, session in changes.sessions.items():
        if session is None:
            words.add("HDEL", keys.parked, session_id)
            words.add("UNLINK", keys.queue(session_id))
        else:
            words.add("HSET", keys.parked, session_id, encode_parked_session(session))
    first_kept = buckets.first_kept(batch.after.cursor)
    for recorded in changes.outcomes:
        bucket = buckets.of(recorded.entry_ms)
        if bucket >= first_kept:
            words.add("HSET", keys.outcomes(bucket), recorded.command_id, encode_outcome(recorded.outcome))


def _take(words: WordList, keys: PartitionKeys, changes: ParkingChanges) -> None:
    places: dict[str, list[str]] = {}
    for command in changes.taken:
        places.setdefault(command.session_id, []).append(command.place)
    for session_id, taken in places.items():
        words.add_many(("XDEL", keys.queue(session_id)), taken)


def parked_command(session_id: str, place: bytes, words: Sequence[bytes]) -> ParkedCommand:
    """Return a command as its queue keeps it."""
    entry_id, pairs = words[1], words[2:]
    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return ParkedCommand(session_id, RawEntry(entry_id.decode(), fields), place.decode())
