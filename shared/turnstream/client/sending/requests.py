"""The requests of a client: commands, checked and addressed, and those that one call sends to a partition."""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec
from msgspec.structs import replace

from turnstream.application.commands.decoder import check_deadline
from turnstream.codec.envelope import MAX_APPLY_WITHIN_MS, check_entry, encode_command
from turnstream.domain.command_specs import COMMAND_SPECS, FREEING
from turnstream.domain.commands import (
    ON_SESSIONS,
    AnyCommand,
    Command,
    CreateSession,
)
from turnstream.domain.models import partition_of
from turnstream.errors import InvalidCommand, Overloaded, Unavailable
from turnstream.messages import new_id
from turnstream.ports import CommandEntry

WhenFull = Literal["raise", "wait"]
"""What happens to a command whose partition has too many waiting: `Overloaded` at once, or a wait for room."""

MAX_BATCH = 256
"""Commands of one publication."""

MAX_BATCH_BYTES = 1024 * 1024

DEADLINE_TOLERANCE_S = 1.0
"""Seconds by which the deadlines of requests in one publication may differ."""


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
        time of `apply_within`, in seconds, begins now. With `wants_session` the reply has the position of the
        session, if the session is the result of the command.

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


class Deadline(msgspec.Struct, frozen=True, gc=False):
    """When a call began and when it is to end, in seconds of the event loop's clock."""

    began: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Begin now.

        Raises:
            InvalidCommand: that is no number of seconds.

        """
        # A caller may have given anything.
        if not isinstance(cast("object", seconds), (int, float)) or math.isnan(seconds):
            raise InvalidCommand("timeout", "Expected a number of seconds")
        now = asyncio.get_running_loop().time()
        return cls(now, now + seconds)

    @property
    def left(self) -> float:
        """The seconds that are left, 0 when it is over."""
        return max(0.0, self.at - asyncio.get_running_loop().time())

    @property
    def passed(self) -> float:
        """The seconds that have passed, rounded for the text of an error."""
        return float(f"{asyncio.get_running_loop().time() - self.began:.3g}")


class SendRequest:
    """The entries of one caller; `taken` of them are in flight or published."""

    def __init__(
        self, entries: Sequence[CommandEntry], deadline: float, *, wait: bool, until: float = math.inf
    ) -> None:
        """Keep entries that are retried until `deadline`; the caller waits until `until` at most.

        Both are times of the event loop's clock, in seconds. An attempt that has begun may outlast the deadline. With
        `wait` the caller waits for room.
        """
        self.entries = entries
        self.deadline = deadline
        self.until = until
        self.wait = wait
        self.frees = all(entry.type in FREEING for entry in entries)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken = 0

    @property
    def all_taken(self) -> bool:
        """Whether all of its entries are in flight or published."""
        return self.taken == len(self.entries)

    def can_share_batch(self, other: "SendRequest", *, alike: bool) -> bool:
        """Return whether both requests may fail together: both wait for room or neither, with about the same deadline.

        If they must be `alike`, both free memory or neither.
        """
        if alike and self.frees is not other.frees:
            return False
        return self.wait is other.wait and abs(self.deadline - other.deadline) <= DEADLINE_TOLERANCE_S

    def should_fail(self, failure: Unavailable, now: float) -> bool:
        """Return whether this waiting request fails now, after a publication before it failed.

        A request with entries in flight fails or succeeds with these.
        """
        return not self.taken and (now > self.deadline or (isinstance(failure, Overloaded) and not self.wait))

    def resolve(self, failure: Exception | None) -> None:
        """Resolve the future of the caller."""
        if self.future.done():
            return
        if failure:
            self.future.set_exception(failure)
        else:
            self.future.set_result(None)


def next_batch(
    waiting: deque[SendRequest], max_batch: int, *, alike: bool
) -> tuple[list[CommandEntry], list[SendRequest]]:
    """Take the entries of the next publication, at least one, and return them with their requests.

    Args:
        waiting: the requests in their order; those that are taken as a whole are removed.
        max_batch: commands that one publication may have.
        alike: take either commands that only free memory, or others, as `SendRequest.can_share_batch`.

    """
    entries: list[CommandEntry] = []
    requests: list[SendRequest] = []
    size = 0
    while waiting and len(entries) < max_batch:
        request = waiting[0]
        entry = request.entries[request.taken]
        size += len(entry.data)
        if entries and (size > MAX_BATCH_BYTES or not request.can_share_batch(requests[0], alike=alike)):
            break
        entries.append(entry)
        request.taken += 1
        if not requests or requests[-1] is not request:
            requests.append(request)
        if request.all_taken:
            waiting.popleft()
    return entries, requests


def first_batch(entries: list[CommandEntry], max_batch: int) -> list[CommandEntry]:
    """Return as many of these entries as fit into one publication, at least one."""
    size = 0
    for count, entry in enumerate(entries[:max_batch]):
        size += len(entry.data)
        if count and size > MAX_BATCH_BYTES:
            return entries[:count]
    return entries[:max_batch]
