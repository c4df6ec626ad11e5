"""One batch while it is decided: events get places, commands outcomes, producers replies (design §3)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from msgspec.structs import replace

from turnstream.application.intake import Accepted, SetAside
from turnstream.application.parking import BatchParking
from turnstream.application.working import WorkingSession
from turnstream.codec.replies import encode_output, rejection_of
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.decision import Context, Decision
from turnstream.domain.events import AnyEvent, EventMeta
from turnstream.domain.handlers import decide
from turnstream.domain.pricing import Catalogue
from turnstream.errors import CommandExpired, DuplicateMismatch, Rejected
from turnstream.ports import (
    Batch,
    MalformedEntry,
    Outcome,
    PartitionState,
    RecordedOutcome,
    Reply,
    SessionPlace,
    milliseconds,
)
from turnstream.telemetry import get_logger

log = get_logger(__name__)


class BatchInProgress:
    """Decides command after command, each on what those before it have left."""

    def __init__(
        self,
        before: PartitionState,
        sessions: Mapping[str, WorkingSession],
        outcomes: Mapping[str, Outcome],
        catalogue: Catalogue,
        parking: BatchParking,
        known_ms: int = 0,
    ) -> None:
        """Start behind `before`, with the sessions and earlier outcomes that the batch's commands need.

        `known_ms` is a time that the server has passed: commands whose time was over by then are not applied.
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

    def decide(self, accepted: Accepted) -> None:
        """Decide a command that changes something, or answer again what it was answered the first time.

        A command that meets a bug is parked.

        Raises:
            Exception: it met a bug after some of it had happened; decide the batch again with it among the failures.

        """
        known = self._known.get(accepted.entry.command_id)
        place = None
        if known is None:
            session = self._sessions.get(accepted.session_id) if accepted.entry.wants_place else None
            before = session.last_sequence if session else 0
            known = (self.parking.outcome(accepted) if self.parking.active else None) or self._attempted(accepted)
            self._known[accepted.entry.command_id] = known
            self._recorded.append(RecordedOutcome(accepted.entry.command_id, accepted.entry_ms, known))
            place = self._place(session, before) if session else None
        elif known.payload_hash != accepted.payload_hash:
            known = _mismatch(accepted)
        self.reply(accepted, known, place)

    def redrive(self, accepted: Accepted) -> Outcome:
        """Decide a command that was parked; its outcome takes the place of the one that said so.

        Raises:
            Exception: it cannot be applied; some of it may have happened.

        """
        known = self._known.get(accepted.entry.command_id)
        if known is None or not self.has_decided(accepted.entry.command_id):
            known = self._outcome(accepted)
            self._known[accepted.entry.command_id] = known
        elif known.payload_hash != accepted.payload_hash:
            known = _mismatch(accepted)
        self.reply(accepted, known)
        return known

    def has_decided(self, command_id: str) -> bool:
        """Tell whether there is an outcome that says more than that the command is parked."""
        known = self._known.get(command_id)
        return known is not None and known.status != "parked"

    def record(self, accepted: Accepted, outcome: Outcome) -> None:
        """Take the outcome of a command that was decided elsewhere."""
        self._recorded.append(RecordedOutcome(accepted.entry.command_id, accepted.entry_ms, outcome))
        self.reply(accepted, outcome)

    def set_aside(self, entry: SetAside) -> None:
        """Move an entry that could not be read out of the way."""
        self._malformed.append(entry.malformed)
        if entry.reply_to and entry.reply:
            self._replies.setdefault(entry.reply_to, []).append(entry.reply)

    def answer(self, reply_to: str, reply: Reply) -> None:
        """Send the answer to a query."""
        self._replies.setdefault(reply_to, []).append(reply)

    def reply(self, accepted: Accepted, outcome: Outcome, place: SessionPlace | None = None) -> None:
        """Tell a command's producer what became of it."""
        if accepted.entry.reply_to is None:
            return
        reply = Reply(
            accepted.entry.command_id,
            outcome.status,
            outcome.version,
            outcome.error,
            outcome.output,
            accepted.payload_hash,
            place,
        )
        self._replies.setdefault(accepted.entry.reply_to, []).append(reply)

    def finished(self, cursor: str, entries: int = 1) -> Batch:
        """Return all that happened in so many entries, up to and with the one of this stream id."""
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
            self.parking.changes(),
            self._until,
        )

    def _place(self, session: WorkingSession, before: int) -> SessionPlace | None:
        """Return where a command stands that was just decided, if anything happened and the session is there."""
        if session.header is None or session.last_sequence == before:
            return None
        updated = milliseconds(session.header.updated_at)
        return SessionPlace(self._before.generation, before, session.last_sequence, updated)

    def _attempted(self, accepted: Accepted) -> Outcome:
        sequence = self._sequence
        try:
            return self._outcome(accepted)
        except Exception as bug:
            if self._sequence != sequence:
                raise
            return self.parking.park(accepted, bug)

    def _expired(self, accepted: Accepted) -> Outcome | None:
        """Return the outcome of a command whose time is over; of any other note until when it must be written."""
        if accepted.deadline > self._known_ms:
            self._until = accepted.deadline if self._until is None else min(self._until, accepted.deadline)
            return None
        entry = accepted.entry
        error = CommandExpired(accepted.session_id, entry.command_id, entry.apply_within_ms or 0)
        return Outcome("rejected", accepted.payload_hash, error=rejection_of(error))

    def _outcome(self, accepted: Accepted) -> Outcome:
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
        self._happen(accepted, session, decision)
        version = session.header.version if session.header else 0
        return Outcome("ok", accepted.payload_hash, version, output=encode_output(decision.output))

    def _happen(self, accepted: Accepted, session: WorkingSession, decision: Decision) -> None:
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


def _mismatch(accepted: Accepted) -> Outcome:
    mismatch = rejection_of(DuplicateMismatch(accepted.entry.command_id))
    return Outcome("rejected", accepted.payload_hash, error=mismatch)
