"""The values that pass through the ports: reads, writes and the changes of a batch (design §3)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Literal

import msgspec

from turnstream.domain.models import ChatMessage, SessionHeader, SessionInfo
from turnstream.errors import StoredDataInvalid

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999. Python has no later time, but the id of a stream entry can have one."""

MAX_KEPT_FIELDS = 50
MAX_KEPT_BYTES = 65_536
"""The limits for a quarantined entry: the number of its fields, and the bytes of each."""

START = "0-0"
"""The cursor of a partition that has applied nothing."""

FoundInfo = SessionInfo | StoredDataInvalid | None
"""A session's summary, or why it cannot be read; `None` if there is no such session."""

Status = Literal["ok", "rejected", "parked"]
"""The status of a command after it was processed (design §4)."""


class CommandEntry(msgspec.Struct, frozen=True, gc=False):
    """A command as a producer publishes it: `data` is its JSON, `reply_to` the channel for its reply.

    With `wants_position` its reply gives the position of the command among the events of its session. It is not applied
    when `apply_within_ms` milliseconds have passed since it was queued; `apply_until` is the same time by the clock of
    its producer's event loop, in seconds, which only the producer knows.
    """

    command_id: str
    type: str
    data: bytes
    reply_to: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    wants_position: bool = False
    apply_within_ms: int | None = None
    apply_until: float | None = None


class RawEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a command stream as a worker reads it: untrusted."""

    entry_id: str
    fields: Mapping[bytes, bytes]


class Rejection(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A `Rejected` error as outcomes and replies carry it."""

    code: str
    message: str
    fields: dict[str, str | int | None] = {}


class Outcome(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """The outcome of a command, kept for the deduplication window.

    `payload_hash` tells a resend from another payload; `version` is the session's after the command; `output` is what
    the command gave back besides the session, as JSON.
    """

    status: Status
    payload_hash: str
    version: int = 0
    error: Rejection | None = None
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class SessionPosition(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The sequences of a command's last event, and of the last one before the command in the same session (0: none).

    `updated_ms` is the time of the session after the command, in milliseconds since 1970.
    """

    generation: str
    previous: int
    sequence: int
    updated_ms: int


class Reply(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """The answer of a worker to the producer of a command.

    `payload_hash` identifies the command if several were sent with one id; "" if it is not known.
    The position is there if the command asked for it and was applied just now.
    """

    command_id: str
    status: Status
    version: int = 0
    error: Rejection | None = None
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload_hash: str = ""
    position: SessionPosition | None = msgspec.field(default=None, name="place")


class StoredHeader(msgspec.Struct, frozen=True, gc=False):
    """A header as stored; `last_sequence` is the sequence of the session's latest event."""

    header: SessionHeader
    last_sequence: int


class SessionNeeds(msgspec.Struct):
    """The data of one session that a batch needs: its header, these messages, and the last `tail` ones."""

    header: bool = True
    message_ids: set[str] = msgspec.field(default_factory=set[str])
    tail: int = 0


class Needs(msgspec.Struct, frozen=True, gc=False):
    """The data that a batch needs: of sessions, and earlier outcomes of commands (id → entry time in ms)."""

    sessions: Mapping[str, SessionNeeds]
    commands: Mapping[str, int]


class LoadedSession(msgspec.Struct, frozen=True, gc=False):
    """The stored data of a session, as far as it was needed; the tail is oldest first."""

    stored: StoredHeader | None
    messages: Mapping[str, ChatMessage]
    tail: tuple[ChatMessage, ...] = ()


class Loaded(msgspec.Struct, frozen=True, gc=False):
    """The answer to `Needs`; commands without an earlier outcome are absent."""

    sessions: Mapping[str, LoadedSession]
    outcomes: Mapping[str, Outcome]


class PartitionState(msgspec.Struct, frozen=True, gc=False):
    """The state of a partition as its owner knows it; every commit checks and advances it (design §3).

    `token` is the fencing token, `replication_id` identifies the history of the server ("" if it is not known), and
    `cursor` is the stream id of the last applied command. `sequence` and `type_sequences` number the events of the
    `generation`, and `passed` counts the entries up to the cursor. `suspects` is the number of commands after the
    cursor that may have crashed the previous owner, as of the take.
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
    """The changes of one session in a batch, applied in this order: `cleared`, `removed`, then `put` and `placed`.

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
    """A quarantined stream entry, and the reason."""

    entry: RawEntry
    error: str

    def shortened(self) -> "MalformedEntry":
        """Return what is kept of it."""
        kept = islice(self.entry.fields.items(), MAX_KEPT_FIELDS)
        fields = {name[:MAX_KEPT_BYTES]: value[:MAX_KEPT_BYTES] for name, value in kept}
        return MalformedEntry(RawEntry(self.entry.entry_id, fields), self.error)

    @property
    def is_shortened(self) -> bool:
        """Whether the quarantined entry may have been larger than what is kept."""
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
