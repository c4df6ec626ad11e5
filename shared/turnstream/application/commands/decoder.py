"""The decoder of stream entries: the first step of a worker, which trusts nothing (design §4, malformed)."""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

import msgspec

from turnstream.codec.envelope import Sender, decode_command, decode_entry, decode_sender, entry_time
from turnstream.codec.records import rejection_of
from turnstream.domain.command_specs import UNBATCHED
from turnstream.domain.commands import ON_SESSIONS, AnyCommand
from turnstream.domain.models import partition_of
from turnstream.errors import InvalidCommand
from turnstream.logging import get_logger, where_of
from turnstream.ports import CommandEntry, MalformedEntry, RawEntry, Reply

log = get_logger(__name__)

HASH_BYTES = 8

REMEMBERED_CHANNELS = 1_024
"""Reply channels that need not be checked again."""


class DecodedCommand(msgspec.Struct, frozen=True, gc=False):
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


class MalformedCommand(msgspec.Struct, frozen=True, gc=False):
    """An entry that could not be read, and the reply to its producer if there is a way to it."""

    malformed: MalformedEntry
    reply_to: str | None = None
    reply: Reply | None = None

    @property
    def raw(self) -> RawEntry:
        """The entry as it is in the stream."""
        return self.malformed.entry


class CommandDecoder:
    """Reads the entries of one partition's command stream."""

    def __init__(
        self, partition: int, partitions: int, max_bytes: int, is_reply_channel: Callable[[str], bool]
    ) -> None:
        """Take the number of the partition, the largest command, and the check for its reply channels."""
        self._partition = partition
        self._partitions = partitions
        self._max_bytes = max_bytes
        self._is_reply_channel = lru_cache(REMEMBERED_CHANNELS)(is_reply_channel)

    def read(self, raw: RawEntry) -> DecodedCommand | MalformedCommand:
        """Return the command of an entry, or why there is none."""
        try:
            return self._decoded(raw)
        except InvalidCommand as error:
            return self.refuse(raw, error)
        except Exception as bug:  # noqa: BLE001 - logged, and the entry set aside: it would fail each time
            # Only its class, and no traceback: they may quote a message's content.
            reason, where = type(bug).__name__, where_of(bug)
            log.error("entry not read", entry_id=raw.entry_id, partition=self._partition, reason=reason, where=where)  # noqa: TRY400
            return self.refuse(raw, InvalidCommand("$", f"The worker failed on it: {reason}"))

    def _decoded(self, raw: RawEntry) -> DecodedCommand:
        entry, entry_ms = decode_entry(raw.fields), entry_time(raw.entry_id)
        if entry.reply_to is not None and not self._is_reply_channel(entry.reply_to):
            raise InvalidCommand("replyTo", "Not a channel for replies from this partition")
        command = decode_command(entry.type, entry.data, self._max_bytes)
        session_id = command.session_id if isinstance(command, ON_SESSIONS) else None
        right = partition_of(session_id, self._partitions) if session_id else self._partition
        if right != self._partition:
            raise InvalidCommand("$.sessionId", f"The session belongs to partition {right}, not {self._partition}")
        check_deadline(command, entry.apply_within_ms)
        return DecodedCommand(raw, entry, command, entry_ms, payload_hash(entry))

    def refuse(self, raw: RawEntry, error: InvalidCommand) -> MalformedCommand:
        """Quarantine an entry without reading its data, with a reply to its producer if the entry names one."""
        sender = decode_sender(raw.fields)
        if sender is None or not self._is_reply_channel(sender.reply_to):
            return MalformedCommand(MalformedEntry(raw, str(error)))
        return malformed_command(raw, sender, error)


def check_deadline(command: AnyCommand, apply_within_ms: int | None) -> None:
    """Check that a command may have a time in which it must be applied.

    Raises:
        InvalidCommand: it changes no session.

    """
    if apply_within_ms is not None and isinstance(command, UNBATCHED):
        raise InvalidCommand("applyWithin", "Only a command that changes a session can have one")


def malformed_command(raw: RawEntry, sender: Sender | None, error: InvalidCommand) -> MalformedCommand:
    """Quarantine an entry, with a reply to its producer."""
    malformed = MalformedEntry(raw, str(error))
    if sender is None:
        return MalformedCommand(malformed)
    return MalformedCommand(malformed, sender.reply_to, Reply(sender.command_id, "rejected", error=rejection_of(error)))


def payload_hash(entry: CommandEntry) -> str:
    """Return a hash that distinguishes two payloads with the same command id."""
    digest = blake2b(entry.data, digest_size=HASH_BYTES)
    digest.update(entry.type.encode())
    return digest.hexdigest()
