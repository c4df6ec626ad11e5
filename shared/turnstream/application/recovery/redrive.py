"""An operator's commands on the queue of a parked session: applied from its head, some at a time (design §4)."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import msgspec
from msgspec.structs import replace

from turnstream.application.commands.batch import BatchInProgress
from turnstream.application.commands.batch_decider import BatchDecider
from turnstream.application.commands.decoder import CommandDecoder, DecodedCommand, MalformedCommand
from turnstream.application.commands.owner_memory import OwnerMemory, reason_of
from turnstream.codec.records import encode_output, rejection_of
from turnstream.domain.command_specs import check_rules
from turnstream.domain.commands import DiscardParked, Operation, QueueProgress
from turnstream.errors import CommandDiscarded, InvalidCommand, Rejected, TurnstreamError
from turnstream.ports import (
    Batch,
    Loaded,
    Outcome,
    ParkedCommand,
    ParkedSession,
    ParkingChanges,
    PartitionState,
    RecordedOutcome,
)

COMMANDS_PER_COMMIT: int = 256
BYTES_PER_COMMIT = 1024 * 1024
"""The commands that leave a queue in one commit at most, and about their bytes."""

WAITING = "Those before were redriven or discarded; these wait for a redrive"
"""The reason in the registry for a queue that was not emptied because of its length or a limit of the operator."""


class ProcessedCommands(msgspec.Struct):
    """The commands that have left the head of a queue, with outcomes, and the failure of the next command."""

    taken: Sequence[ParkedCommand]
    outcomes: Sequence[RecordedOutcome]
    failure: Exception | None = None


class ParkedQueueProcessor:
    """Turns redrives and discardings into batches."""

    def __init__(self, decider: BatchDecider, decoder: CommandDecoder, memory: OwnerMemory) -> None:
        """Work on what the partition's owner remembers as parked."""
        self._decider = decider
        self._decoder = decoder
        self._parked = memory.parked

    async def decide(
        self,
        state: PartitionState,
        operation: DecodedCommand,
        most: int = COMMANDS_PER_COMMIT,
        failure: Exception | None = None,
    ) -> Batch:
        """Decide an operation, and with it the first commands of the queue.

        Args:
            state: the state of the partition.
            operation: the entry of a redrive or a discarding.
            most: so many commands at most leave the queue.
            failure: the failure of its head, if it need not be tried.

        """
        outcomes = await self._decider.outcomes(state, {operation.entry.command_id: operation.entry_ms})
        if outcomes:
            batch = self._decider.new_batch(state, loaded=Loaded({}, outcomes))
            batch.decide(operation)
            return batch.finished(operation.raw.entry_id)
        changes = None
        try:
            # A queue that cannot be changed is not read either: perhaps it is unreadable.
            queue = await self._head(state, operation, most) if failure is None else ()
        except Rejected as error:
            batch = self._decider.new_batch(state)
            outcome = Outcome("rejected", operation.payload_hash, error=rejection_of(error))
        else:
            batch, processed = await self._process_head(state, operation, queue)
            processed.failure = processed.failure or failure
            outcome, changes = self._result(operation, processed)
        batch.record(operation, outcome)
        return replace(batch.finished(operation.raw.entry_id), parking=changes)

    async def _head(self, state: PartitionState, operation: DecodedCommand, most: int) -> Sequence[ParkedCommand]:
        """Return what may leave the queue now.

        Raises:
            Rejected: the operation breaks a rule, or is about another head.

        """
        command = _command(operation)
        check_rules(command)
        session = self._parked.get(command.session_id)
        if session is None:
            return ()
        fitting = max(1, BYTES_PER_COMMIT * session.count // max(session.size, 1))
        count = min(most, command.limit or most, fitting)
        queue = await self._parked.quarantine.queue(state.partition, command.session_id, max(count, 1))
        if command.head is not None and not (queue and _command_id(queue[0]) == command.head):
            raise InvalidCommand("$.head", "Another command is at the head of the queue")
        return _within_one_commit(queue[:count])

    async def _process_head(
        self, state: PartitionState, operation: DecodedCommand, queue: Sequence[ParkedCommand]
    ) -> tuple[BatchInProgress, ProcessedCommands]:
        if isinstance(operation.command, DiscardParked):
            batch = self._decider.new_batch(state)
            read = (self._decoder.read(parked.entry) for parked in queue)
            commands = (item for item in read if isinstance(item, DecodedCommand))
            return batch, ProcessedCommands(queue, [_discarded(batch, operation, item) for item in commands])
        items, failure = self._read(queue)
        needs, loaded = await self._decider.load(state, items, None, thorough=True)
        # A copy of a command may have left the queue before: its outcome has the time of the operation.
        recent = await self._decider.outcomes(state, {item.entry.command_id: operation.entry_ms for item in items})
        applied = {i: outcome for i, outcome in recent.items() if outcome.status != "parked"}
        loaded = replace(loaded, outcomes={**loaded.outcomes, **applied})
        while True:
            batch, outcomes, done = self._decider.new_batch(state, needs, loaded), list[RecordedOutcome](), 0
            try:
                for item in items:
                    first = not batch.has_decided(item.entry.command_id)
                    outcome = batch.redrive(item)
                    done += 1
                    if first:
                        outcomes.append(RecordedOutcome(item.entry.command_id, operation.entry_ms, outcome))
            except Exception as bug:  # noqa: BLE001 - whatever it is, the registry says it
                # It may have half happened: those before it are decided again without it.
                items, failure = items[:done], bug
            else:
                return batch, ProcessedCommands(queue[: len(items)], outcomes, failure)

    def _result(self, operation: DecodedCommand, processed: ProcessedCommands) -> tuple[Outcome, ParkingChanges | None]:
        """Return the operation's outcome, and what it changes of what is parked."""
        session_id = _command(operation).session_id
        session = self._parked.get(session_id)
        after = _entry_after(session, processed) if session else None
        reason = reason_of(processed.failure) if processed.failure else None
        output = encode_output(QueueProgress(done=len(processed.taken), left=after.count if after else 0, error=reason))
        outcome = Outcome("ok", operation.payload_hash, output=output)
        if session is None:
            return outcome, None
        return outcome, ParkingChanges({session_id: after}, (), processed.taken, processed.outcomes)

    def _read(self, queue: Sequence[ParkedCommand]) -> tuple[list[DecodedCommand], Exception | None]:
        """Return the commands up to the first that this version cannot read, and what is wrong with that."""
        items: list[DecodedCommand] = []
        for parked in queue:
            item = self._decoder.read(parked.entry)
            if isinstance(item, MalformedCommand):
                return items, TurnstreamError(item.malformed.error)
            items.append(item)
        return items, None


def _within_one_commit(queue: Sequence[ParkedCommand]) -> Sequence[ParkedCommand]:
    """Return as many of these commands as one commit should hold, at least one."""
    sizes = accumulate(command.size for command in queue)
    return queue[: max(1, sum(size <= BYTES_PER_COMMIT for size in sizes))]


def _entry_after(session: ParkedSession, processed: ProcessedCommands) -> ParkedSession | None:
    """Return the new registry entry; `None` if nothing is left, or nothing was there."""
    left = session.count - len(processed.taken)
    if left <= 0 or not (processed.taken or processed.failure):
        return None
    size = session.size - sum(command.size for command in processed.taken)
    return replace(session, count=left, size=size, error=reason_of(processed.failure) if processed.failure else WAITING)


def _discarded(batch: BatchInProgress, operation: DecodedCommand, item: DecodedCommand) -> RecordedOutcome:
    error = rejection_of(CommandDiscarded(item.session_id, item.entry.command_id))
    outcome = Outcome("rejected", item.payload_hash, error=error)
    batch.reply(item, outcome)
    return RecordedOutcome(item.entry.command_id, operation.entry_ms, outcome)


def _command_id(parked: ParkedCommand) -> str:
    return parked.entry.fields.get(b"id", b"").decode(errors="replace")


def _command(operation: DecodedCommand) -> Operation:
    return cast("Operation", operation.command)
