"""A batch while it is decided: its sessions, its events, and the replies to producers (design §3)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import cast

from msgspec import UNSET
from msgspec.structs import replace

from turnstream.application.commands.decoder import DecodedCommand, MalformedCommand
from turnstream.application.commands.owner_memory import BatchParking
from turnstream.codec.records import encode_output, milliseconds, rejection_of
from turnstream.domain.command_specs import decide
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.events import AnyEvent, EventMeta
from turnstream.domain.evolution import evolve_header, evolve_messages
from turnstream.domain.handlers import Context, Decision
from turnstream.domain.models import ChatMessage, SessionHeader
from turnstream.domain.patches import ChatMessagePatch, apply_patch
from turnstream.domain.prices import Catalogue
from turnstream.errors import CommandExpired, DuplicateMismatch, Rejected
from turnstream.logging import get_logger
from turnstream.ports import (
    Batch,
    LoadedSession,
    MalformedEntry,
    Outcome,
    PartitionState,
    RecordedOutcome,
    Reply,
    SessionPosition,
    SessionWrite,
    StoredHeader,
)


class WorkingSession:
    """A `SessionView` and a `MessageTarget`; messages that no command of the batch needs are not known to it."""

    def __init__(self, session_id: str, stored: StoredHeader | None, loaded: LoadedSession | None) -> None:
        """Start from the stored header and the loaded messages."""
        self.header: SessionHeader | None = stored.header if stored else None
        self.last_sequence = stored.last_sequence if stored else 0
        self.write = SessionWrite(session_id, before=stored)
        self._messages: dict[str, ChatMessage] = dict(loaded.messages) if loaded else {}
        self._tail = dict.fromkeys(message.id for message in loaded.tail) if loaded else {}
        if loaded:
            self._messages.update((message.id, message) for message in loaded.tail)

    def message(self, message_id: str) -> ChatMessage | None:
        """Return a message as the batch has left it."""
        return self._messages.get(message_id)

    def tail(self, count: int) -> tuple[ChatMessage, ...]:
        """Return the last messages as the batch has left them, oldest first."""
        newest_first = islice(reversed(self._tail), count)
        return tuple(self._messages[message_id] for message_id in newest_first)[::-1]

    def apply(self, event: AnyEvent, sequence: int) -> None:
        """Let an event happen, the one with this sequence in the partition."""
        header = evolve_header(self.header, event)
        evolve_messages(self, self.header, event)
        self.header = header
        self.last_sequence = sequence

    def finished(self) -> SessionWrite:
        """Return what the batch changes of this session."""
        self.write.after = StoredHeader(self.header, self.last_sequence) if self.header else None
        return self.write

    def clear(self) -> None:
        """Forget all messages, also those that are stored."""
        self._messages.clear()
        self._tail.clear()
        self.write = SessionWrite(self.write.session_id, self.write.before, cleared=True, unseen=self.write.unseen)

    def append(self, message: ChatMessage, position: int) -> None:
        """Add a message at its position."""
        self._messages[message.id] = message
        self._tail[message.id] = None
        self.write.put[message.id] = message
        self.write.placed[message.id] = position
        if not self.write.cleared and message.id not in self.write.removed:
            self.write.unseen.add(message.id)

    def update(self, message_id: str, updates: ChatMessagePatch) -> None:
        """Change fields of a message that was loaded or added."""
        updated = apply_patch(self._messages[message_id], updates)
        self._messages[message_id] = updated
        self.write.put[message_id] = updated

    def remove(self, message_id: str) -> None:
        """Take a message away."""
        del self._messages[message_id]
        self._tail.pop(message_id, None)
        self.write.put.pop(message_id, None)
        self.write.placed.pop(message_id, None)
        if message_id not in self.write.unseen:
            self.write.removed.add(message_id)


log = get_logger(__name__)


class BatchInProgress:
    """Decides command after command, each on what those before it have left."""

    def __init__(
        self,
        before: PartitionState,
        sessions: Mapping[str, WorkingSession],
        outcomes: Mapping[str, Outcome],
        catalogue: Catalogue,
        parking: BatchParking | None = None,
        known_ms: int = 0,
    ) -> None:
        """Start after `before`, with the sessions and earlier outcomes that the commands need.

        Args:
            before: the state of the partition.
            sessions: the sessions that the commands change, by id.
            outcomes: the earlier outcomes of commands, by command id.
            catalogue: windows and prices of models.
            parking: parks commands; `None` if no session is parked and no command has failed, as in most batches.
            known_ms: a time that the server has passed: commands that expired by then are not applied.

        """
        self.parking = parking
        self._known_ms = known_ms
        self._until: int | None = None
        self._before = before
        self._sessions = sessions
        self._known = dict(outcomes)
        self._catalogue = catalogue
        self._sequence = before.sequence
        self._types = dict(before.type_sequences)
        self._events: list[AnyEvent] = []
        self._recorded: list[RecordedOutcome] = []
        self._malformed: list[MalformedEntry] = []
        self._replies: dict[str, list[Reply]] = {}

    def decide_all(self, run: Sequence[DecodedCommand | MalformedCommand]) -> Mapping[str, Exception]:
        """Decide commands; return the failure of one that failed half-way, by the id of its entry, and stop there."""
        for item in run:
            if isinstance(item, MalformedCommand):
                self.quarantine(item)
                continue
            try:
                self.decide(item)
            except Exception as bug:  # noqa: BLE001 - whatever it is, it is logged
                return {item.raw.entry_id: bug}
        return {}

    def decide(self, accepted: DecodedCommand) -> None:
        """Decide a command that changes something, or answer again what it was answered the first time.

        A command that meets a bug is parked, if the batch parks commands and none of its events is applied.

        Raises:
            Exception: the bug that it met otherwise; decide the batch again with it among the failures.

        """
        known = self._known.get(accepted.entry.command_id)
        position = None
        if known is None:
            session = (
                self._sessions.get(cast("ChangingCommand", accepted.command).session_id or "")
                if accepted.entry.wants_position
                else None
            )
            before = session.last_sequence if session else 0
            known = (self.parking.outcome(accepted) if self.parking else None) or self._decide_or_park(accepted)
            self._known[accepted.entry.command_id] = known
            self._recorded.append(RecordedOutcome(accepted.entry.command_id, accepted.entry_ms, known))
            position = self._position(session, before) if session else None
        elif known.payload_hash != accepted.payload_hash:
            known = _mismatch(accepted)
        self.reply(accepted, known, position)

    def redrive(self, accepted: DecodedCommand) -> Outcome:
        """Decide a command that was parked; its outcome takes the place of the one that said so.

        Raises:
            Exception: it cannot be applied; some of it may have happened.

        """
        known = self._known.get(accepted.entry.command_id)
        if known is None or not self.has_decided(accepted.entry.command_id):
            known = self._decide(accepted)
            self._known[accepted.entry.command_id] = known
        elif known.payload_hash != accepted.payload_hash:
            known = _mismatch(accepted)
        self.reply(accepted, known)
        return known

    def has_decided(self, command_id: str) -> bool:
        """Return whether there is an outcome that says more than that the command is parked."""
        known = self._known.get(command_id)
        return known is not None and known.status != "parked"

    def record(self, accepted: DecodedCommand, outcome: Outcome) -> None:
        """Take the outcome of a command that was decided elsewhere."""
        self._recorded.append(RecordedOutcome(accepted.entry.command_id, accepted.entry_ms, outcome))
        self.reply(accepted, outcome)

    def quarantine(self, entry: MalformedCommand) -> None:
        """Move an entry that could not be read out of the way."""
        self._malformed.append(entry.malformed)
        if entry.reply_to and entry.reply:
            self._replies.setdefault(entry.reply_to, []).append(entry.reply)

    def answer(self, reply_to: str, reply: Reply) -> None:
        """Send the answer to a query."""
        self._replies.setdefault(reply_to, []).append(reply)

    def reply(self, accepted: DecodedCommand, outcome: Outcome, position: SessionPosition | None = None) -> None:
        """Add the reply to the producer of a command."""
        if accepted.entry.reply_to is None:
            return
        reply = Reply(
            accepted.entry.command_id,
            outcome.status,
            outcome.version,
            outcome.error,
            outcome.output,
            accepted.payload_hash,
            position,
        )
        self._replies.setdefault(accepted.entry.reply_to, []).append(reply)

    def finished(self, cursor: str, entries: int = 1) -> Batch:
        """Return the batch of so many entries, up to and including the one with this stream id."""
        after = replace(
            self._before,
            cursor=cursor,
            sequence=self._sequence,
            type_sequences=self._types,
            passed=self._before.passed + entries,
        )
        writes = [s.finished() for s in self._sessions.values() if s.last_sequence > self._before.sequence]
        return Batch(
            self._before,
            after,
            writes,
            self._events,
            self._recorded,
            self._replies,
            self._malformed,
            self.parking.changes() if self.parking else None,
            self._until,
        )

    def _position(self, session: WorkingSession, before: int) -> SessionPosition | None:
        """Return the position of a command that was just decided, if it caused an event and the session exists."""
        if session.header is None or session.last_sequence == before:
            return None
        updated = milliseconds(session.header.updated_at)
        return SessionPosition(self._before.generation, before, session.last_sequence, updated)

    def _decide_or_park(self, accepted: DecodedCommand) -> Outcome:
        sequence = self._sequence
        try:
            return self._decide(accepted)
        except Exception as bug:
            if self.parking is None or self._sequence != sequence:
                raise
            return self.parking.park(accepted, bug)

    def _expired(self, accepted: DecodedCommand) -> Outcome | None:
        """Return the outcome of a command whose time is over; of any other note until when it must be written."""
        if accepted.deadline > self._known_ms:
            self._until = accepted.deadline if self._until is None else min(self._until, accepted.deadline)
            return None
        entry = accepted.entry
        error = CommandExpired(accepted.session_id, entry.command_id, entry.apply_within_ms or 0)
        return Outcome("rejected", accepted.payload_hash, error=rejection_of(error))

    def _decide(self, accepted: DecodedCommand) -> Outcome:
        if accepted.entry.apply_within_ms is not None and (expired := self._expired(accepted)):
            return expired
        command = cast("ChangingCommand", accepted.command)
        session = self._sessions[command.session_id or ""]
        time = datetime.fromtimestamp(accepted.entry_ms / 1000, UTC)
        try:
            decision = decide(session, command, Context(accepted.entry.command_id, time, self._catalogue))
        except Rejected as error:
            log.debug("command rejected", command_id=accepted.entry.command_id, session_id=command.session_id)
            version = session.header.version if session.header else 0
            return Outcome("rejected", accepted.payload_hash, version, rejection_of(error))
        self._apply_events(accepted, session, decision)
        version = session.header.version if session.header else 0
        output = UNSET if decision.output is None else encode_output(decision.output)
        return Outcome("ok", accepted.payload_hash, version, output=output)

    def _apply_events(self, accepted: DecodedCommand, session: WorkingSession, decision: Decision) -> None:
        entry = accepted.entry
        for index, event in enumerate(decision.events):
            self._sequence += 1
            meta = EventMeta(
                event_id=f"{entry.command_id}:{index}",
                partition=self._before.partition,
                generation=self._before.generation,
                sequence=self._sequence,
                previous_of_type=self._types.get(event.type, 0),
                previous_of_session=session.last_sequence if session.header else 0,
                command_id=entry.command_id,
                correlation_id=entry.correlation_id,
                traceparent=entry.traceparent,
            )
            self._types[event.type] = self._sequence
            session.apply(event, self._sequence)
            self._events.append(replace(event, meta=meta))


def _mismatch(accepted: DecodedCommand) -> Outcome:
    mismatch = rejection_of(DuplicateMismatch(accepted.entry.command_id))
    return Outcome("rejected", accepted.payload_hash, error=mismatch)
