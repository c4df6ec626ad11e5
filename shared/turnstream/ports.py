"""What the application asks of the outside: protocols, and the values that pass through them (design §8).

An adapter is a bundle of them, a `Backend`; `turnstream.adapters.memory` and `turnstream.adapters.redis` each make one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from turnstream.domain.events import AnyEvent
from turnstream.domain.models import ChatMessage, SessionHeader, SessionInfo

START = "0-0"
"""The cursor of a partition that has applied nothing."""


class CommandEntry(msgspec.Struct, frozen=True, gc=False):
    """A command as a producer publishes it: `data` is its JSON, `reply_to` the channel for its reply."""

    command_id: str
    type: str
    data: bytes
    reply_to: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None


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

    status: Literal["ok", "rejected"]
    payload_hash: str
    version: int = 0
    error: Rejection | None = None
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Reply(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What a producer is told about its command."""

    command_id: str
    status: Literal["ok", "rejected"]
    version: int = 0
    error: Rejection | None = None
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


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
    the last applied command, `sequence` and `type_sequences` number the events of the `generation`.
    """

    partition: int
    token: str
    replication_id: str
    cursor: str
    generation: str
    sequence: int
    type_sequences: Mapping[str, int]


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


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Everything that applying some commands of a partition changes, in one atomic step."""

    before: PartitionState
    after: PartitionState
    writes: Sequence[SessionWrite]
    events: Sequence[AnyEvent]
    outcomes: Sequence[RecordedOutcome]
    replies: Mapping[str, Sequence[Reply]]
    malformed: Sequence[MalformedEntry]


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


class SessionStore(Protocol):
    """The repository as a partition's owner uses it."""

    async def load(self, partition: int, needs: Needs) -> Loaded:
        """Return what is stored of all that is needed."""
        ...

    async def commit(self, batch: Batch) -> None:
        """Write a batch, all or nothing.

        Raises:
            Fenced: a check failed; nothing was written.
            Collision: an outcome or an unseen message is stored already; nothing was written.
            Unavailable: the result is unknown.

        """
        ...


class SessionReader(Protocol):
    """The repository as anybody may read it."""

    async def infos(self, session_ids: Sequence[str]) -> list[SessionInfo | None]:
        """Return the summaries of these sessions, in their order; `None` for those that are not there."""
        ...

    async def messages(self, session_id: str, wanted: MessageRange) -> tuple[SessionHeader, tuple[ChatMessage, ...]]:
        """Return a session's header and the wanted messages, oldest first, of one version.

        Raises:
            SessionNotFound: there is no such session.
            MessageNotFound: a message that bounds the range is not there.

        """
        ...

    async def index(
        self,
        partition: int,
        beyond: IndexEntry | None,
        count: int,
        *,
        newest_first: bool,
    ) -> list[IndexEntry]:
        """Return up to `count` places of a partition's listing, from `beyond` (exclusive) on."""
        ...

    async def count(self) -> int:
        """Return how many sessions there are."""
        ...


class CommandQueue(Protocol):
    """The command streams."""

    async def publish(self, partition: int, entries: Sequence[CommandEntry]) -> None:
        """Append commands to a partition's stream, in this order.

        Raises:
            Overloaded: more commands wait there than may.
            Unavailable: it is not known whether they were appended.

        """
        ...

    async def read(self, cursors: Mapping[int, str], count: int, block: float) -> Mapping[int, Sequence[RawEntry]]:
        """Return up to `count` entries a partition behind its cursor; wait up to `block` seconds for the first."""
        ...

    async def wake(self) -> None:
        """End a `read` that waits."""
        ...


class Ownership(Protocol):
    """Who applies the commands of which partition (design §5)."""

    async def beat(self, worker_id: str) -> Sequence[str]:
        """Announce that a worker lives; return all live workers."""
        ...

    async def depart(self, worker_id: str) -> None:
        """Announce that a worker leaves."""
        ...

    async def take(self, partition: int, worker_id: str) -> PartitionState | None:
        """Become the owner of a partition that is free; `None` while it has another owner."""
        ...

    async def renew(self, states: Sequence[PartitionState]) -> list[bool]:
        """Keep partitions for another lease time; False for each that was lost."""
        ...

    async def release(self, states: Sequence[PartitionState]) -> None:
        """Give partitions up, and ring the bell for who waits for them."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever a worker came, left or released something."""
        ...

    async def tidy(self, states: Sequence[PartitionState]) -> None:
        """Trim the events of partitions and show their progress to standard tools, off the hot path."""
        ...


class Subscription(Protocol):
    """Payloads published on some channels, from its opening on, until it is closed."""

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (channel, payload); raises `Unavailable` when the connection is lost."""
        ...

    async def aclose(self) -> None:
        """End it."""
        ...


class Channels(Protocol):
    """Publish and subscribe."""

    def reply_channel(self, partition: int, client_id: str) -> str:
        """Return the channel on which a client gets its replies from a partition."""
        ...

    def is_reply_channel(self, partition: int, channel: str) -> bool:
        """Tell whether a channel is for replies from this partition: nothing else may be named by a producer."""
        ...

    def event_channels(self, types: Sequence[str], session_id: str | None) -> list[str]:
        """Return the channels that carry these types of event (none: all), or the events of one session."""
        ...

    async def subscribe(self, channels: Sequence[str]) -> Subscription:
        """Listen; on return nothing published from now on is missed."""
        ...


class Backend(Protocol):
    """Everything behind one deployment."""

    @property
    def partitions(self) -> int:
        """How many partitions the deployment has."""
        ...

    @property
    def store(self) -> SessionStore:
        """The owner's side of the repository."""
        ...

    @property
    def reader(self) -> SessionReader:
        """The reader's side of the repository."""
        ...

    @property
    def queue(self) -> CommandQueue:
        """The command streams."""
        ...

    @property
    def ownership(self) -> Ownership:
        """Leases and heartbeats."""
        ...

    @property
    def channels(self) -> Channels:
        """Publish and subscribe."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def entry_time(entry_id: str) -> int:
    """Return the time of a stream entry in milliseconds since 1970."""
    return int(entry_id.partition("-")[0])


def milliseconds(time: datetime) -> int:
    """Return a time as whole milliseconds since 1970."""
    return int(time.timestamp() * 1000)
