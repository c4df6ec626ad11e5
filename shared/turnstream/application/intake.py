"""From what stands in a stream to commands: the first step, which trusts nothing (design §4, malformed)."""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

import msgspec

from turnstream.application.routing import partition_of
from turnstream.codec.commands import decode_command
from turnstream.codec.envelope import Sender, decode_entry, decode_sender
from turnstream.codec.replies import rejection_of
from turnstream.domain.commands import ALONE, ON_SESSIONS, AnyCommand
from turnstream.errors import InvalidCommand
from turnstream.ports import CommandEntry, MalformedEntry, RawEntry, Reply, entry_time
from turnstream.telemetry import get_logger, where_of

log = get_logger(__name__)

HASH_BYTES = 8

REMEMBERED_CHANNELS = 1_024
"""Reply channels that need not be checked again."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A command that could be read, with what its entry says."""

    raw: RawEntry
    entry: CommandEntry
    command: AnyCommand
    entry_ms: int
    payload_hash: str

    @property
    def deadline(self) -> int:
        """When its time is over, in milliseconds since 1970 by the clock of the server that queued it."""
        return self.entry_ms + (self.entry.apply_within_ms or 0)

    @property
    def session_id(self) -> str:
        """The session that the command is about; empty where it is about none, or names none."""
        return (isinstance(self.command, ON_SESSIONS) and self.command.session_id) or ""


class SetAside(msgspec.Struct, frozen=True, gc=False):
    """An entry that could not be read, and the reply to its producer if there is a way to it."""

    malformed: MalformedEntry
    reply_to: str | None = None
    reply: Reply | None = None

    @property
    def raw(self) -> RawEntry:
        """The entry as it stands in the stream."""
        return self.malformed.entry


class Intake:
    """Reads the entries of one partition's command stream."""

    def __init__(
        self, partition: int, partitions: int, max_bytes: int, is_reply_channel: Callable[[str], bool]
    ) -> None:
        """Take the partition's place among all, the largest command, and what tells a channel for its replies."""
        self._partition = partition
        self._partitions = partitions
        self._max_bytes = max_bytes
        self._is_reply_channel = lru_cache(REMEMBERED_CHANNELS)(is_reply_channel)

    def read(self, raw: RawEntry) -> Accepted | SetAside:
        """Return the command of an entry, or why there is none."""
        try:
            entry = decode_entry(raw.fields)
            self._check_reply_channel(entry)
            command = decode_command(entry.type, entry.data, self._max_bytes)
            self._check_partition(command)
            check_deadline(command, entry.apply_within_ms)
        except InvalidCommand as error:
            return self.refuse(raw, error)
        except Exception as bug:  # noqa: BLE001 - logged, and the entry set aside: it would fail each time
            # Only its class, and no traceback: they may quote a message's content.
            reason, where = type(bug).__name__, where_of(bug)
            log.error("entry not read", entry_id=raw.entry_id, partition=self._partition, reason=reason, where=where)  # noqa: TRY400
            return self.refuse(raw, InvalidCommand("$", f"The worker failed on it: {reason}"))
        return Accepted(raw, entry, command, entry_time(raw.entry_id), payload_hash(entry))

    def refuse(self, raw: RawEntry, error: InvalidCommand) -> SetAside:
        """Set an entry aside, without reading its data; its producer is told why if the entry says who that is."""
        sender = decode_sender(raw.fields)
        if sender is None or not self._is_reply_channel(sender.reply_to):
            return SetAside(MalformedEntry(raw, str(error)))
        return set_aside(raw, sender, error)

    def _check_reply_channel(self, entry: CommandEntry) -> None:
        if entry.reply_to is not None and not self._is_reply_channel(entry.reply_to):
            raise InvalidCommand("replyTo", "Not a channel for replies from this partition")

    def _check_partition(self, command: AnyCommand) -> None:
        if not isinstance(command, ON_SESSIONS) or not command.session_id:
            return
        right = partition_of(command.session_id, self._partitions)
        if right != self._partition:
            raise InvalidCommand("$.sessionId", f"The session belongs to partition {right}, not {self._partition}")


def check_deadline(command: AnyCommand, apply_within_ms: int | None) -> None:
    """Check that a command may have a time in which it must be applied.

    Raises:
        InvalidCommand: it changes no session.

    """
    if apply_within_ms is not None and isinstance(command, ALONE):
        raise InvalidCommand("applyWithin", "Only a command that changes a session can have one")


def set_aside(raw: RawEntry, sender: Sender | None, error: InvalidCommand) -> SetAside:
    """Set an entry aside and tell its producer why."""
    malformed = MalformedEntry(raw, str(error))
    if sender is None:
        return SetAside(malformed)
    return SetAside(malformed, sender.reply_to, Reply(sender.command_id, "rejected", error=rejection_of(error)))


def payload_hash(entry: CommandEntry) -> str:
    """Return what tells two payloads under one command id apart."""
    digest = blake2b(entry.data, digest_size=HASH_BYTES)
    digest.update(entry.type.encode())
    return digest.hexdigest()
