"""Commands on their way out: checked and addressed, then one sender a partition keeps their order (design §1, §10)."""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import msgspec
from msgspec.structs import replace

from turnstream.application.commands.decoder import check_deadline
from turnstream.client.sending.partition_sender import MAX_TOGETHER, PartitionSender, Published, SendRequest
from turnstream.codec.envelope import MAX_APPLY_WITHIN_MS, check_entry, encode_command
from turnstream.domain.command_specs import COMMAND_SPECS
from turnstream.domain.commands import (
    ON_SESSIONS,
    AnyCommand,
    Command,
    CreateSession,
)
from turnstream.domain.models import partition_of
from turnstream.errors import InvalidCommand
from turnstream.messages import new_id
from turnstream.ports import CommandEntry, CommandQueue

WhenFull = Literal["raise", "wait"]
"""What happens to a command whose partition has too many waiting: `Overloaded` at once, or a wait for room."""

RESEND_FRACTION = 0.4
"""The fraction of the deduplication window for retrying a publication, and for resending an unanswered command: one may
follow the other, and both must fit into the window with the time of the way to the stream."""


class Trace(msgspec.Struct, frozen=True):
    """Ids that a command passes on to its events: one of the producer, and a W3C trace context."""

    correlation_id: str | None = None
    traceparent: str | None = None


NO_TRACE = Trace()


class AddressedCommand(msgspec.Struct, frozen=True, gc=False):
    """A command ready to be published.

    `session_id` is empty if the command is about no session. `own_id` says whether the caller chose the command's id,
    and so may have used it before.
    """

    partition: int
    session_id: str
    entry: CommandEntry
    own_id: bool = False


class EnvelopeBuilder:
    """Addresses the commands of one client."""

    def __init__(self, partitions: int, max_bytes: int, reply_channels: Sequence[str]) -> None:
        """Take the deployment's partitions, the largest command, and the client's channels."""
        self._partitions = partitions
        self._max_bytes = max_bytes
        self._reply_channels = reply_channels

    def address(
        self,
        command: Command[Any],
        command_id: str | None = None,
        trace: Trace | None = None,
        *,
        wants_session: bool = False,
        apply_within: float | None = None,
    ) -> AddressedCommand:
        """Check a command and put it into its envelope.

        A `CreateSession` without a session id gets the command's id, so that a resend is the same command again. The
        time of `apply_within`, in seconds, begins now. With `wants_session` the reply says where the session
        stands, if the session is the result of the command.

        Raises:
            InvalidCommand: a worker would refuse it; names the field.

        """
        wants_position = wants_session and gives_session(command)
        entry_id = new_id() if command_id is None else command_id
        if isinstance(command, CreateSession) and command.session_id is None:
            command = replace(command, session_id=entry_id)
        known = cast("AnyCommand", command)
        data = encode_command(known, self._max_bytes)
        session_id = (isinstance(known, ON_SESSIONS) and known.session_id) or ""
        partition = partition_of(session_id, self._partitions)
        given = trace or NO_TRACE
        entry = CommandEntry(
            entry_id,
            command.type,
            data,
            self._reply_channels[partition],
            given.correlation_id,
            given.traceparent,
            wants_position,
        )
        if apply_within is not None:
            entry = _limited(entry, known, apply_within)
        if command_id is not None or trace is not None:
            check_entry(entry)
        return AddressedCommand(partition, session_id, entry, own_id=command_id is not None)


def _limited(entry: CommandEntry, command: AnyCommand, apply_within: float) -> CommandEntry:
    """Return an entry that is not to be applied after some seconds."""
    # A caller may have given anything.
    number = isinstance(cast("object", apply_within), (int, float)) and not isinstance(apply_within, bool)
    if not number or not 0 < apply_within <= MAX_APPLY_WITHIN_MS / 1000:
        raise InvalidCommand("apply_within", f"Expected seconds, more than 0 and at most {MAX_APPLY_WITHIN_MS // 1000}")
    milliseconds = math.ceil(apply_within * 1000)
    check_deadline(command, milliseconds)
    until = asyncio.get_running_loop().time() + apply_within
    return replace(entry, apply_within_ms=milliseconds, apply_until=until)


def gives_session(command: Command[Any]) -> bool:
    """Return whether the result of a command is its session."""
    spec = COMMAND_SPECS.get(type(command))
    return spec is not None and spec.output is None


class Outbox:
    """The lanes of a client; each is held while the client has no connection for its replies."""

    def __init__(self, queue: CommandQueue, window: float, max_backlog: int = MAX_TOGETHER) -> None:
        """Publish to these streams.

        Args:
            queue: the command streams.
            window: seconds for which workers recognise a command again.
            max_backlog: commands that may wait in a stream; more would never be let in together.

        """
        self.resend_window = window * RESEND_FRACTION
        self._queue = queue
        self._together = min(MAX_TOGETHER, max_backlog)
        self._lanes: dict[int, PartitionSender] = {}
        self._published: Published = lambda _, __: None

    def tell(self, published: Published) -> None:
        """Set the callback for commands that are queued from now on."""
        self._published = published

    def put(
        self,
        partition: int,
        entries: Sequence[CommandEntry],
        timeout: float | None = 0.0,
        *,
        wait: bool = False,
        until: float = math.inf,
    ) -> asyncio.Future[None]:
        """Put commands into a lane, in this order.

        Args:
            partition: where they go.
            entries: the commands.
            timeout: seconds for which it is tried again; `None` for as long as the caller waits.
            wait: wait for room where too many commands wait already.
            until: when the caller waits no longer, whatever is under way then, by the event loop's clock.

        Returns:
            A future that is done when all of them are durably queued; it fails with `Overloaded` when too many wait
            there already, with `Unavailable` when it is not known whether they are queued.

        """
        deadline = until if timeout is None else asyncio.get_running_loop().time() + timeout
        return self._lane(partition).put(SendRequest(entries, deadline, wait=wait, until=until))

    def hold(self, partitions: Iterable[int], why: str) -> None:
        """Publish nothing to these partitions until `resume`."""
        for partition in partitions:
            self._lane(partition).hold(why)

    def resume(self, again: Mapping[int, Sequence[CommandEntry]]) -> None:
        """Publish to these partitions, to each first these commands, which were published before."""
        for partition, entries in again.items():
            self._lane(partition).resume(entries)

    async def aclose(self) -> None:
        """Wait for publications in flight, without retries."""
        for lane in self._lanes.values():
            lane.close()
        await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task))

    def _lane(self, partition: int) -> PartitionSender:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = PartitionSender(
                self._queue, partition, self.resend_window, self._together, self._published
            )
        return lane
