"""Hostile stream entries, made from real ones: each way to damage an entry has a name, and is chosen by a seed."""

from collections.abc import Callable, Mapping, Sequence
from random import Random

import msgspec

from turnstream.codec.envelope import encode_entry
from turnstream.domain.commands import AnyCommand
from turnstream.ports import CommandEntry

Fields = dict[bytes, bytes]
Damage = Callable[[Random, Fields], None]

DEEP = 2_000
"""Levels of nesting: more than any recursion survives."""
LARGE = 300
"""Bytes of a field that may have 256."""
HUGE = (b"9" * 40, b"-1", b"1e999", b"-1e308", b"0.1", b"NaN", b"Infinity", b"-Infinity", b"18446744073709551616")
ODD_VALUES = (b"null", b"true", b'""', b"[]", b"{}", b"[[]]", b'{"a":1}', rb'"\ud800"', rb'"\udfff\ud800"', b'"\xff"')
LAST_PART = 2**64 - 1
"""The largest number that either part of a stream entry's id can be."""
BEGINNINGS = (253_402_300_799_990, 253_402_300_800_000, 2**63, LAST_PART - 1_000_000)
"""Milliseconds of chosen ids: around the end of the year 9999, and far after it."""
KNOWN_FIELDS = (b"id", b"type", b"data", b"replyTo", b"correlationId", b"traceparent")


def written(command_id: str, command: AnyCommand, reply_to: str | None = None) -> Fields:
    """Return the entry that a client writes for a command."""
    data = msgspec.json.encode(command)
    words = encode_entry(CommandEntry(command_id, command.type, data, reply_to, "correlation", "00-1-2-03"))
    raw = [word if isinstance(word, bytes) else word.encode() for word in words]
    return dict(zip(raw[::2], raw[1::2], strict=True))


def truncated(chance: Random, fields: Fields) -> None:
    fields[b"data"] = fields[b"data"][: chance.randrange(len(fields[b"data"]))]


def bit_flipped(chance: Random, fields: Fields) -> None:
    data = bytearray(fields[b"data"])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    fields[b"data"] = bytes(data)


def value_replaced(chance: Random, fields: Fields) -> None:
    """Put a value of another type, a number beyond all bounds or a lone surrogate after some colon."""
    parts = fields[b"data"].split(b":")
    at = chance.randrange(1, len(parts)) if len(parts) > 1 else 0
    parts[at] = chance.choice(HUGE + ODD_VALUES) + b"," + parts[at].partition(b",")[2]
    fields[b"data"] = b":".join(parts)


def no_object(chance: Random, fields: Fields) -> None:
    fields[b"data"] = chance.choice(HUGE + ODD_VALUES)


def nested_deep(chance: Random, fields: Fields) -> None:
    opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    closed = closing * DEEP if chance.random() < 0.5 else b""
    fields[b"data"] = fields[b"data"][:-1] + b',"x":' + opening * DEEP + b"1" + closed + b"}"


def unknown_type(chance: Random, fields: Fields) -> None:
    fields[b"type"] = chance.choice([b"drop-table", b"add_message", b"ADD-MESSAGE", b"\xff\xfe", b"add-message\x00"])


def another_type(chance: Random, fields: Fields) -> None:
    fields[b"type"] = chance.choice([b"create-session", b"add-message", b"remove-messages", b"list-sessions"])


def field_missing(chance: Random, fields: Fields) -> None:
    del fields[chance.choice([name for name in KNOWN_FIELDS if name in fields])]


def field_empty(chance: Random, fields: Fields) -> None:
    fields[chance.choice(KNOWN_FIELDS)] = b""


def field_oversized(chance: Random, fields: Fields) -> None:
    fields[chance.choice([name for name in KNOWN_FIELDS if name != b"data"])] = b"x" * LARGE


def field_binary(chance: Random, fields: Fields) -> None:
    fields[chance.choice(KNOWN_FIELDS)] = chance.randbytes(chance.randrange(1, 40))


def foreign_channel(chance: Random, fields: Fields) -> None:
    fields[b"replyTo"] = chance.choice([b"ts:events:message-added", b"__keyspace@0__:x", fields[b"replyTo"] + b"*"])


def only_noise(chance: Random, fields: Fields) -> None:
    fields.clear()
    fields.update({chance.randbytes(8): chance.randbytes(20) for _ in range(chance.randrange(1, 6))})


DAMAGES: tuple[Damage, ...] = (
    *(truncated, bit_flipped, value_replaced, no_object, nested_deep, unknown_type, another_type),
    *(field_missing, field_empty, field_oversized, field_binary, foreign_channel, only_noise),
)


class EntryIds:
    """Chosen ids for entries of one stream, each the last of its millisecond, and more in each."""

    def __init__(self, partition: int) -> None:
        """Choose nothing yet; the entries of other partitions lie in other times."""
        self._time = BEGINNINGS[partition % len(BEGINNINGS)]
        self.began = False

    def chosen(self) -> str:
        """Return an id that is larger than those before, and than all that the server has generated since."""
        self.began = True
        self._time += 1
        return f"{self._time}-{LAST_PART}"


def hostile(chance: Random, originals: Sequence[Mapping[bytes, bytes]], number: int) -> tuple[str, Fields]:
    """Return the name of a damage, and an entry that has it; its command id, if it has one still, is its own."""
    fields = {**chance.choice(originals), b"id": b"hostile-%d" % number}
    damage = chance.choice(DAMAGES)
    damage(chance, fields)
    return damage.__name__, fields
