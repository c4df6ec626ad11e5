"""The ports: the interfaces between the application and its adapters (design §8)."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from turnstream.domain.models import ChatMessage, SessionHeader
from turnstream.ports.batch import Batch
from turnstream.ports.events import EventLog
from turnstream.ports.membership import Membership
from turnstream.ports.parked import ParkedCommand, ParkedSession
from turnstream.ports.subscriptions import ConsumerStore
from turnstream.ports.values import (
    CommandEntry,
    Condition,
    FoundInfo,
    IndexEntry,
    Loaded,
    MalformedEntry,
    MessageRange,
    Needs,
    PartitionState,
    RawEntry,
)


class SessionStore(Protocol):
    """The repository as a partition's owner uses it."""

    async def load(self, partition: int, needs: Needs) -> Loaded:
        """Return what is stored of all that is needed."""
        ...

    async def commit(self, batch: Batch) -> None:
        """Write a batch, all or nothing.

        Raises:
            Fenced: a check failed; nothing was written.
            TooLate: the batch's time is over; nothing was written.
            Collision: an outcome or an unseen message is stored already; nothing was written.
            BatchRefused: the store cannot write it as it is; nothing was written.
            ServerFull: there is no memory for it, and it does not end with what frees some; nothing was written.
            Unavailable: the result is unknown.

        """
        ...


class Quarantine(Protocol):
    """Parked commands and malformed entries: the owner parks, operators look (design §4)."""

    async def parked(self, partition: int) -> Mapping[str, ParkedSession]:
        """Return the registry of a partition's parked sessions."""
        ...

    async def queue(self, partition: int, session_id: str, count: int, after: str = "") -> Sequence[ParkedCommand]:
        """Return up to `count` parked commands of a session, from the head of its queue or after a command of it."""
        ...

    async def attempt(self, state: PartitionState, entry_id: str) -> int:
        """Note that the command after the cursor is tried alone; return the number of owners that it has crashed.

        Raises:
            Fenced: the partition has another owner.

        """
        ...

    async def malformed(self, partition: int, count: int, after: str = "") -> Sequence[tuple[str, MalformedEntry]]:
        """Return up to `count` malformed entries with their ids, oldest first, after an id."""
        ...

    async def requeue(self, partition: int, malformed_id: str) -> bool:
        """Move an entry that could not be read to the end of the command stream; False if there is no such entry.

        Raises:
            Overloaded: more commands wait there than may.

        """
        ...

    async def drop(self, partition: int, malformed_id: str) -> bool:
        """Forget an entry that could not be read; False if there is no such entry."""
        ...


class SessionReader(Protocol):
    """Reads of the repository, for every client."""

    async def infos(self, session_ids: Sequence[str]) -> list[FoundInfo]:
        """Return the summaries of these sessions, in their order; `None` for those that are not there.

        In place of one that cannot be read is the error that says so, for the others are not to suffer from it.
        """
        ...

    async def messages(self, session_id: str, wanted: MessageRange) -> tuple[SessionHeader, tuple[ChatMessage, ...]]:
        """Return a session's header and the wanted messages, oldest first, of one version.

        Raises:
            SessionNotFound: there is no such session.
            MessageNotFound: a message that bounds the range is not there.
            StoredDataInvalid: the stored data of the session cannot be read.

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
            ServerFull: there is no memory for them; none was appended.
            Unavailable: it is not known whether they were appended.

        """
        ...

    async def read(self, cursors: Mapping[int, str], count: int, block: float) -> Mapping[int, Sequence[RawEntry]]:
        """Return up to `count` entries a partition behind its cursor; wait up to `block` seconds for the first.

        If the partitions are on several servers, other entries may come with a later call.
        """
        ...

    async def wake(self) -> None:
        """End a `read` that waits."""
        ...


InFlight = Callable[[int], Sequence[str]]


def nothing_in_flight(_: int) -> Sequence[str]:
    """Return no entries."""
    return ()


class Ownership(Membership[PartitionState], Protocol):
    """The distribution of the partitions to workers: the members are the workers (design §5)."""

    async def condition(self, partition: int) -> Condition:
        """Return which workers are alive and whether the server of a partition has room, for the text of a time-out.

        Raises:
            Unavailable: the server does not answer.

        """
        ...

    async def owners(self) -> Mapping[int, str]:
        """Return the id of the worker that owns each partition; partitions without an owner are left out.

        Raises:
            Unavailable: the server does not answer.

        """
        ...

    async def tidy(self, states: Sequence[PartitionState], in_flight: InFlight = nothing_in_flight) -> Sequence[int]:
        """Trim events beyond retention and show the progress to standard tools, off the hot path.

        Partitions that have another owner are skipped, and one that fails holds up no other. Commands that were removed
        from a stream before they were applied are counted and announced, except those in flight.

        Args:
            states: the states of the owned partitions.
            in_flight: returns the ids of the entries of a partition that were read and are not applied, in their order.

        Returns:
            The partitions that must be taken again.

        """
        ...


class Subscription(Protocol):
    """Payloads published on some channels, from its opening on, until it is closed."""

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (channel, payload); raises `Unavailable` when the connection is lost."""
        ...

    async def consume(self, callback: Callable[[bytes], None]) -> None:
        """Give each payload to `callback` as it comes, first those that have come, and return when it is closed.

        This replaces iterating, and can be called once. An error that `callback` raises ends it and is raised here.

        Raises:
            Unavailable: the connection was lost.

        """
        ...

    async def ping(self) -> None:
        """Return after everything published before the call has been received.

        Raises:
            Unavailable: the connection was lost, or the server does not answer.

        """
        ...

    async def aclose(self) -> None:
        """End it."""
        ...


class Channels(Protocol):
    """Publish and subscribe."""

    def reply_channel(self, partition: int, client_id: str) -> str:
        """Return the channel on which a client gets its replies from a partition."""
        ...

    def loss_channel(self, partition: int) -> str:
        """Return the channel that tells of commands that were taken from a partition before they were applied."""
        ...

    def is_reply_channel(self, partition: int, channel: str) -> bool:
        """Return whether a channel is for replies from this partition: nothing else may be named by a producer."""
        ...

    def event_channels(self, types: Sequence[str], session_id: str | None) -> list[str]:
        """Return the channels that carry these types of event (none: all), or the events of one session.

        They may carry other events as well: the receiver filters them.
        """
        ...

    async def grouped(self, channels: Sequence[str]) -> list[list[str]]:
        """Return channels in groups that share a server now: the channels of one group are lost together.

        Raises:
            Unavailable: no server answers that.

        """
        ...

    async def subscribe(self, channels: Sequence[str]) -> Subscription:
        """Listen; on return nothing published from now on is missed."""
        ...


class Backend(Protocol):
    """All ports of one deployment."""

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
    def events(self) -> EventLog:
        """The event streams."""
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
    def quarantine(self) -> Quarantine:
        """Parked commands and malformed entries."""
        ...

    @property
    def channels(self) -> Channels:
        """Publish and subscribe."""
        ...

    @property
    def subscriptions(self) -> ConsumerStore:
        """Checkpoints and parked events of durable subscriptions."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
