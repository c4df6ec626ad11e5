"""The values that pass through the ports: what is read, what is written, and what a batch changes (design §3)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Literal

import msgspec

from turnstream.domain.models import ChatMessage, SessionHeader, SessionInfo
from turnstream.errors import StoredDataInvalid

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, behind which Python knows no time; a stream entry's id can lie behind it."""
MILLISECOND = timedelta(milliseconds=1)

MAX_KEPT_FIELDS = 50
MAX_KEPT_BYTES = 65_536
"""What is kept of a malformed entry: so many fields, and so many bytes of each."""

START = "0-0"
"""The cursor of a partition that has applied nothing."""

FoundInfo = SessionInfo | StoredDataInvalid | None
"""A session's summary, or why it cannot be read; `None` where there is no such session."""

Status = Literal["ok", "rejected", "parked"]
"""What became of a command (design §4)."""


class CommandEntry(msgspec.Struct, frozen=True, gc=False):
    """A command as a producer publishes it: `data` is its JSON, `reply_to` the channel for its reply.

    With `wants_place` its reply is to say where it stands in the history of its session. It is not applied when
    `apply_within_ms` milliseconds have passed since it was queued; `apply_until` is the same moment by the clock of its
    producer's event loop, in seconds, which only the producer knows.
    """

    command_id: str
    type: str
    data: bytes
    reply_to: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    wants_place: bool = False
    apply_within_ms: int | None = None
    apply_until: float | None = None


class RawEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a command stream as a worker reads it: anybody may have written anything."""

    entry_id: str
    fields: Mapping[bytes, bytes]


class Rejection(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A `Rejected` error as outcomes and replies carry it."""

    code: str
    message: str
    fields: dict[str, str | int | None] = {}


class Outcome(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What became of a command; kept for the deduplication window.

    `payload_hash` tells a resend from another payload; `version` is the session's after the command; `output` is what
    the command gave back besides the session, as JSON.
    """

    status: Status
    payload_hash: str
    version: int = 0
    error: Rejection | None = None
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class SessionPlace(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Where the last event of a command stands, and the one before the command in the same session (0: none).

    `updated_ms` is the session's time behind the command, in milliseconds since 1970.
    """

    generation: str
    previous: int
    sequence: int
    updated_ms: int


class Reply(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What a producer is told about its command.

    `payload_hash` says which command it is about, where several were sent under one id; "" where it is not known.
    `place` is there where the command asked for it and was applied just now.
    """

    command_id: str
    status: Status
    version: int = 0
    error: Rejection | None = None
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload_hash: str = ""
    place: SessionPlace | None = None


class StoredHeader(msgspec.Struct, frozen=True, gc=False):
    """A header as stored; `last_sequence` is the sequence of the session's latest event."""

    header: SessionHeader
    last_sequence: int


class SessionNeeds(msgspec.Struct):
    """What deciding a batch needs of one session: its header, these messages, and the last `tail` ones."""

    header: bool = True
    message_ids: set[str] = msgspec.field(default_factory=set[str])
    tail: int = 0


class Needs(msgspec.Struct, frozen=True, gc=False):
    """What deciding a batch needs: of sessions, and earlier outcomes of these commands (id → entry time in ms)."""

    sessions: Mapping[str, SessionNeeds]
    commands: Mapping[str, int]

    @property
    def nothing_to_read(self) -> bool:
        """Tell whether all that is needed is known already."""
        return not self.commands and not any(n.header or n.message_ids or n.tail for n in self.sessions.values())


class LoadedSession(msgspec.Struct, frozen=True, gc=False):
    """What is stored of a session, as far as it was needed; the tail is oldest first."""

    stored: StoredHeader | None
    messages: Mapping[str, ChatMessage]
    tail: tuple[ChatMessage, ...] = ()


class Loaded(msgspec.Struct, frozen=True, gc=False):
    """The answer to `Needs`; commands without an earlier outcome are absent."""

    sessions: Mapping[str, LoadedSession]
    outcomes: Mapping[str, Outcome]


class PartitionState(msgspec.Struct, frozen=True, gc=False):
    """What the owner of a partition must know; every commit checks it and moves it on (design §3).

    `token` fences, `replication_id` names the server's history ("" where it is not known), `cursor` is the stream id of
    the last applied command, `sequence` and `type_sequences` number the events of the `generation`, `passed` is how
    many entries the cursor has passed. `suspects` is how many of the commands behind the cursor the owner before may
    have died of, as of the take.
    """

    partition: int
    token: str
    replication_id: str
    cursor: str
    generation: str
    sequence: int
    type_sequences: Mapping[str, int]
    suspects: int = 0
    passed: int = 0


class SessionWrite(msgspec.Struct):
    """What a batch changes of one session. Applied in this order: `cleared`, `removed`, then `put` and `placed`.

    `put` are messages to be written, `placed` the positions of the new ones among them; `cleared` takes all messages
    away that were stored before the batch. `unseen` are messages that the batch took to be new, without having looked.
    """

    session_id: str
    before: StoredHeader | None
    after: StoredHeader | None = None
    cleared: bool = False
    removed: set[str] = msgspec.field(default_factory=set[str])
    put: dict[str, ChatMessage] = msgspec.field(default_factory=dict[str, ChatMessage])
    placed: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    unseen: set[str] = msgspec.field(default_factory=set[str])


class RecordedOutcome(msgspec.Struct, frozen=True, gc=False):
    """An outcome to be kept, with the time of its command's stream entry in milliseconds."""

    command_id: str
    entry_ms: int
    outcome: Outcome


class MalformedEntry(msgspec.Struct, frozen=True, gc=False):
    """A stream entry that is set aside, and why."""

    entry: RawEntry
    error: str

    def shortened(self) -> "MalformedEntry":
        """Return what is kept of it."""
        kept = islice(self.entry.fields.items(), MAX_KEPT_FIELDS)
        fields = {name[:MAX_KEPT_BYTES]: value[:MAX_KEPT_BYTES] for name, value in kept}
        return MalformedEntry(RawEntry(self.entry.entry_id, fields), self.error)

    @property
    def is_shortened(self) -> bool:
        """Tell of an entry that was kept whether it may have been larger."""
        longest = max((max(len(name), len(value)) for name, value in self.entry.fields.items()), default=0)
        return len(self.entry.fields) >= MAX_KEPT_FIELDS or longest >= MAX_KEPT_BYTES


class MessageRange(msgspec.Struct, frozen=True, gc=False):
    """Which messages to read: those between two messages (exclusive), of them the first or the last `count`."""

    after: str | None = None
    before: str | None = None
    count: int | None = None
    from_end: bool = False


class IndexEntry(msgspec.Struct, frozen=True, gc=False, order=True):
    """A session's place in the listing: when it was last updated, in milliseconds, then its id."""

    updated_ms: int
    session_id: str


class Condition(msgspec.Struct, frozen=True, gc=False):
    """How a deployment is: seconds since the last sign of life of each worker that is known, and whether there is room.

    A worker is alive for `lease` seconds after a sign of life.
    """

    workers: Mapping[str, float]
    lease: float
    is_full: bool = False


# A batch asks for the time of the same few entries again and again.
@lru_cache(8)
def entry_time(entry_id: str) -> int:
    """Return the time of a stream entry in milliseconds since 1970; one that no date can have is the last date's."""
    return min(int(entry_id.partition("-")[0]), LAST_MS)


def milliseconds(time: datetime) -> int:
    """Return a time as whole milliseconds since 1970."""
    # Not by way of a float, which rounds some of them down to the millisecond before.
    return (time - EPOCH) // MILLISECOND
