"""The memory of a partition's owner: session headers, parked sessions, and what a batch parks (design §4)."""

from collections.abc import Mapping

import msgspec

from turnstream.application.commands.decoder import DecodedCommand
from turnstream.codec.envelope import encode_entry
from turnstream.codec.records import rejection_of
from turnstream.domain.limits import MAX_ID_LENGTH
from turnstream.errors import InvalidCommand, ParkedQueueFull, StoredDataInvalid, TurnstreamError
from turnstream.ports import (
    Batch,
    Outcome,
    ParkedCommand,
    ParkedSession,
    ParkingChanges,
    Quarantine,
    RawEntry,
    SessionWrite,
    StoredHeader,
)
from turnstream.signals import BatchRefused


class ParkingLimits(msgspec.Struct, frozen=True):
    """How many commands of parked sessions a partition keeps, and how many bytes of them."""

    commands: int = 10_000
    size: int = 64 * 1024 * 1024


class CannotBeParked(TurnstreamError):  # noqa: N818 - a state of the session's queue
    """The store takes neither a command nor its place in the queue of its session."""

    def __init__(self, fault: Exception, refusal: Exception) -> None:
        """Say for what it was to be parked, and what kept it from that."""
        reason, why = reason_of(fault), reason_of(refusal)
        # A command of a parked session has no separate reason.
        first = "" if reason == why else f"{reason.rstrip('.')}. "
        super().__init__(f"{first}It cannot be parked: {why}")
        self.__cause__ = fault


class ParkedSessions:
    """The registry of a partition's parked sessions; read once, for afterwards only its owner's commits change it."""

    def __init__(self, quarantine: Quarantine, partition: int, limits: ParkingLimits) -> None:
        """Remember nothing yet."""
        self.quarantine = quarantine
        self.limits = limits
        self.count = self.size = 0
        self.loaded = False
        self.sessions: dict[str, ParkedSession] = {}
        """The registry entries, by session id."""
        self._partition = partition

    async def load(self) -> None:
        """Read the registry."""
        stored = await self.quarantine.parked(self._partition)
        self.loaded = True
        self.keep(stored)

    def get(self, session_id: str) -> ParkedSession | None:
        """Return the registry entry of a session; `None` if it is not parked."""
        return self.sessions.get(session_id)

    def keep(self, changed: Mapping[str, ParkedSession | None]) -> None:
        """Remember what a committed batch has left."""
        for session_id, session in changed.items():
            before = self.sessions.pop(session_id, None)
            if session is not None:
                self.sessions[session_id] = session
            for each, sign in ((before, -1), (session, 1)):
                self.count += sign * each.count if each else 0
                self.size += sign * each.size if each else 0


class BatchParking:
    """The commands that one batch parks; `failures` are the reasons not to decide some, by the ids of their entries."""

    def __init__(self, parked: ParkedSessions, failures: Mapping[str, Exception]) -> None:
        """Start from what is parked already."""
        self.failed: list[tuple[DecodedCommand, Exception]] = []
        self._parked = parked
        self._failures = failures
        self._changed: dict[str, ParkedSession] = {}
        self._queued: list[ParkedCommand] = []
        self._added = 0

    def takes(self, accepted: DecodedCommand) -> bool:
        """Return whether a command is parked and not decided."""
        return accepted.raw.entry_id in self._failures or self._session(accepted.session_id) is not None

    def outcome(self, accepted: DecodedCommand) -> Outcome | None:
        """Park a command that is not to be decided; `None` for all others."""
        failure = self._failures.get(accepted.raw.entry_id)
        if failure is not None:
            return self.park(accepted, failure)
        session = self._session(accepted.session_id)
        return None if session is None else self._queue(accepted, session)

    def park(self, accepted: DecodedCommand, failure: Exception) -> Outcome:
        """Park a command that cannot be applied, and with it its session; without a queue it can only be refused."""
        self.failed.append((accepted, failure))
        if isinstance(failure, CannotBeParked) or not can_be_parked(accepted):
            error = InvalidCommand("$.sessionId", reason_of(failure))
            return Outcome("rejected", accepted.payload_hash, error=rejection_of(error))
        session = self._session(accepted.session_id)
        return self._queue(accepted, session or ParkedSession(0, 0, accepted.entry_ms, reason_of(failure)))

    def holds(self, accepted: DecodedCommand) -> bool:
        """Return whether a command was parked now; it was not if that is impossible, or a limit was reached."""
        return any(command.entry.entry_id == accepted.raw.entry_id for command in self._queued)

    def changes(self) -> ParkingChanges | None:
        """Return what is to be committed; `None` if nothing was parked."""
        return ParkingChanges(self._changed, self._queued) if self._changed else None

    def _session(self, session_id: str) -> ParkedSession | None:
        return self._changed.get(session_id) or self._parked.get(session_id)

    def _queue(self, accepted: DecodedCommand, session: ParkedSession) -> Outcome:
        command = parked_command(accepted)
        full = self._full(command.size)
        if full:
            error = rejection_of(ParkedQueueFull(accepted.session_id, full))
            return Outcome("rejected", accepted.payload_hash, error=error)
        self._added += command.size
        self._queued.append(command)
        self._changed[accepted.session_id] = msgspec.structs.replace(
            session, count=session.count + 1, size=session.size + command.size
        )
        return Outcome("parked", accepted.payload_hash)

    def _full(self, size: int) -> str:
        """Name the limit that one more command would pass, if there is one."""
        limits = self._parked.limits
        if self._parked.count + len(self._queued) >= limits.commands:
            return f"{limits.commands} commands"
        if self._parked.size + self._added + size > limits.size:
            return f"{limits.size} bytes"
        return ""


def parked_command(accepted: DecodedCommand) -> ParkedCommand:
    """Return a command as its queue keeps it: the fields that this version knows, with the id of its entry."""
    words = [word if isinstance(word, bytes) else word.encode() for word in encode_entry(accepted.entry)]
    fields = dict(zip(words[::2], words[1::2], strict=True))
    return ParkedCommand(accepted.session_id, RawEntry(accepted.raw.entry_id, fields))


def can_be_parked(accepted: DecodedCommand) -> bool:
    """Return whether a command names a session that can have a queue."""
    return 0 < len(accepted.session_id) <= MAX_ID_LENGTH


def reason_of(failure: Exception) -> str:
    """Say what kept a command from being applied; errors of other code may quote what it holds, so only their class."""
    if isinstance(failure, (BatchRefused, StoredDataInvalid)):
        return f"The store refused it: {failure.reason}"
    if isinstance(failure, TurnstreamError):
        return str(failure)
    return f"The worker failed on it: {type(failure).__name__}"


class HeaderCache(dict[str, StoredHeader]):
    """The headers of sessions; the least recently written ones make room for new ones."""

    def __init__(self, capacity: int) -> None:
        """Keep up to `capacity` headers."""
        super().__init__()
        self._capacity = capacity

    def keep(self, write: SessionWrite) -> None:
        """Remember the header of a session after a committed batch."""
        self.pop(write.session_id, None)
        if write.after is None:
            return
        self[write.session_id] = write.after
        if len(self) > self._capacity:
            del self[next(iter(self))]


class OwnerMemory(msgspec.Struct, frozen=True):
    """The data that only this owner can change, as long as it owns the partition."""

    headers: HeaderCache
    parked: ParkedSessions

    @classmethod
    def empty(cls, quarantine: Quarantine, partition: int, headers: int, limits: ParkingLimits) -> "OwnerMemory":
        """Return the memory of a new owner, for up to so many headers."""
        return cls(HeaderCache(headers), ParkedSessions(quarantine, partition, limits))

    def keep(self, batch: Batch) -> None:
        """Remember what a committed batch has left."""
        for write in batch.writes:
            self.headers.keep(write)
        if batch.parking:
            self.parked.keep(batch.parking.sessions)
