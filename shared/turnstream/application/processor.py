"""The owner of a partition at work: load ▸ decide ▸ commit, a batch at a time (design §3)."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from msgspec.structs import replace

from turnstream.application.commands.batch import BatchInProgress
from turnstream.application.commands.batch_decider import NO_FAILURES, BatchDecider, Failures, Item
from turnstream.application.commands.decoder import CommandDecoder, DecodedCommand, MalformedCommand, malformed_command
from turnstream.application.commands.owner_memory import (
    BatchParking,
    CannotBeParked,
    OwnerMemory,
    can_be_parked,
    reason_of,
)
from turnstream.application.queries.query_handler import QueryHandler
from turnstream.application.recovery.crash_isolation import CrashIsolation
from turnstream.application.recovery.redrive import COMMANDS_PER_COMMIT, ParkedQueueProcessor
from turnstream.codec.envelope import decode_command_id, decode_sender
from turnstream.domain.command_specs import UNBATCHED
from turnstream.domain.commands import QUERIES, Query
from turnstream.domain.prices import Catalogue
from turnstream.errors import InvalidCommand, KeyUnusable, StoredDataInvalid, TurnstreamError, Unavailable
from turnstream.logging import get_logger, where_of
from turnstream.ports import Batch, MalformedEntry, PartitionState, RawEntry, SessionStore
from turnstream.signals import BatchRefused, Collision, PartitionRefused, TooLate

log = get_logger(__name__)

QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)
"""The quoted part of an error, which may hold content and is left out of logs."""


class PartitionProcessor:
    """Applies a partition's commands; it holds what only the partition's owner may remember."""

    def __init__(
        self,
        state: PartitionState,
        decoder: CommandDecoder,
        store: SessionStore,
        answers: QueryHandler,
        catalogue: Catalogue,
        memory: OwnerMemory,
    ) -> None:
        """Start from the state of the partition, as its new owner, with an empty memory."""
        self.state = state
        self._stopping = False
        self._decoder = decoder
        self._store = store
        self._answers = answers
        self._memory = memory
        self._frees = False
        self._decider = BatchDecider(store, catalogue, memory)
        self._parked_queues = ParkedQueueProcessor(self._decider, decoder, memory)
        self._crash_isolation = CrashIsolation(memory.parked.quarantine, decoder, state.suspects)

    def stop(self) -> None:
        """Leave what is tried a few at a time to the next owner, who need not wait for all of it."""
        self._stopping = True

    async def process(self, entries: Sequence[RawEntry], *, frees: bool = False) -> None:
        """Apply the entries right after the cursor, in order.

        Args:
            entries: the entries of the stream.
            frees: the last of them only frees memory, so they are applied on a full server as well.

        Raises:
            Fenced: the partition has another owner; this object is of no use any more.
            BatchRefused: a command can be neither applied nor parked; those before it are applied.
            ServerFull: there is no memory for what is left of them.
            Unavailable: the result is unknown; take the partition again and see.

        """
        self._frees = frees
        try:
            await self._process(entries)
        except (KeyUnusable, StoredDataInvalid) as fault:
            raise PartitionRefused(self.state.partition, str(fault)) from fault
        except TurnstreamError:
            raise
        except Exception as fault:
            raise BatchRefused(self.state.partition, reason_of(fault)) from fault

    async def _process(self, entries: Sequence[RawEntry]) -> None:
        if not self._memory.parked.loaded:
            await self._memory.parked.load()
        while entries and self._crash_isolation.left:
            if self._stopping:
                return
            items, failures = await self._crash_isolation.examine(self.state, entries)
            for run in _split_at_unbatched(items):
                await self._apply(run, failures)
            entries = entries[len(items) :]
        for run in _split_at_unbatched([self._decoder.read(entry) for entry in entries]):
            await self._apply(run)

    async def _apply(self, run: Sequence[Item], failures: Failures = NO_FAILURES) -> None:
        """Apply commands that change something in one step; a query or an operation is a separate run."""
        first = run[0]
        if isinstance(first, DecodedCommand) and isinstance(first.command, QUERIES):
            batch = await self._answer_query(first, first.command)
            await self._commit(batch.finished(first.raw.entry_id))
        elif isinstance(first, DecodedCommand) and isinstance(first.command, UNBATCHED):
            await self._apply_operation(first)
        else:
            try:
                await self._apply_in_one_commit(run, failures)
            except Exception as fault:
                if not _is_fault(fault):
                    raise
                await self._park_refused(run, failures)

    async def _apply_in_one_commit(self, run: Sequence[Item], failures: Failures) -> None:
        try:
            await self._decide_and_commit(run, failures, thorough=False)
        except Collision:
            try:
                await self._decide_and_commit(run, failures, thorough=True)
            except Collision as again:
                # Everything that could collide was read.
                raise BatchRefused(self.state.partition, str(again)) from again

    async def _decide_and_commit(self, run: Sequence[Item], failures: Failures, *, thorough: bool) -> None:
        """Decide and commit; each attempt rejects further commands whose time is over by the server's clock."""
        while True:
            batch = await self._decider.decide(self.state, run, failures, thorough=thorough)
            try:
                await self._commit(batch.finished(run[-1].raw.entry_id, len(run)))
            except TooLate as late:
                self._decider.note_time(late.now_ms)
            else:
                if batch.parking:
                    _log_failed(batch.parking, self.state.partition)
                return

    async def _park_refused(self, run: Sequence[Item], failures: Failures) -> None:
        """Find, in order, the commands that the store refuses, and park them; headers are read again."""
        self._memory.headers.clear()
        if len(run) > 1:
            half = len(run) // 2
            await self._apply(run[:half])
            await self._apply(run[half:])
            return
        (item,) = run
        try:
            await self._apply_in_one_commit(run, failures)
        except Exception as fault:
            if not _is_fault(fault) or isinstance(item, MalformedCommand) or not can_be_parked(item):
                raise
            await self._park(item, fault, failures)

    async def _park(self, item: DecodedCommand, fault: Exception, failures: Failures) -> None:
        """Park a command. If not even the queue of its session takes it, reject it, so that other sessions continue."""
        try:
            await self._apply_in_one_commit([item], {item.raw.entry_id: fault})
        except Exception as again:
            if not _is_fault(again):
                raise
            first = await self._failure_of_decision(item, failures) or fault
            await self._apply_in_one_commit([item], {item.raw.entry_id: CannotBeParked(first, again)})

    async def _failure_of_decision(self, item: DecodedCommand, failures: Failures) -> Exception | None:
        """Return what kept a command from being decided, before the store did not take its place in a queue."""
        try:
            batch = await self._decider.decide(self.state, [item], failures, thorough=False)
        except Exception as fault:
            if not _is_fault(fault):
                raise
            return None
        return next((failure for _, failure in batch.parking.failed), None) if batch.parking else None

    async def _apply_operation(self, operation: DecodedCommand) -> None:
        """Apply an operator's command, with fewer and fewer parked ones for as long as the store does not take them."""
        most: int = COMMANDS_PER_COMMIT
        failure: Exception | None = None
        while True:
            try:
                batch = await self._parked_queues.decide(self.state, operation, most, failure)
                await self._commit(batch)
            except TooLate as late:
                self._decider.note_time(late.now_ms)
            except Exception as fault:
                if not _is_fault(fault) or failure is not None:
                    raise
                self._memory.headers.clear()
                most, failure = most // 2, fault if most == 1 else None
            else:
                return

    async def _commit(self, batch: Batch) -> None:
        await self._store.commit(replace(batch, frees=True) if self._frees else batch)
        self.state = batch.after
        if batch.malformed:
            _log_malformed(batch.malformed, self.state.partition)
        if batch.parking and batch.parking.taken:
            left = {session_id: after.count if after else 0 for session_id, after in batch.parking.sessions.items()}
            log.info("parked commands redriven or discarded", count=len(batch.parking.taken), left=left)
        self._memory.keep(batch)

    async def _answer_query(self, accepted: DecodedCommand, query: Query) -> BatchInProgress:
        batch = self._decider.new_batch(self.state)
        if not accepted.entry.reply_to:
            return batch
        try:
            batch.answer(accepted.entry.reply_to, await self._answers.reply(accepted.entry.command_id, query))
        except Exception as bug:
            if isinstance(bug, Unavailable) and not isinstance(bug, KeyUnusable):
                raise
            log.error(  # noqa: TRY400 - a traceback may quote a message's content
                "query quarantined",
                command_id=accepted.entry.command_id,
                partition=self.state.partition,
                reason=reason_of(bug),
                where=where_of(bug),
            )
            error = InvalidCommand("$", reason_of(bug))
            batch.quarantine(malformed_command(accepted.raw, decode_sender(accepted.raw.fields), error))
        return batch


def _log_malformed(malformed: Sequence[MalformedEntry], partition: int) -> None:
    first = malformed[0]
    log.warning(
        "entries quarantined",
        partition=partition,
        count=len(malformed),
        first=first.entry.entry_id,
        command_id=decode_command_id(first.entry.fields),
        error=QUOTED.sub("…", first.error),
    )


def _log_failed(parking: BatchParking, partition: int) -> None:
    for accepted, failure in parking.failed:
        log.error(
            "command parked" if parking.holds(accepted) else "command rejected: it cannot be parked",
            command_id=accepted.entry.command_id,
            session_id=accepted.session_id,
            partition=partition,
            reason=reason_of(failure),
            where=where_of(failure),
        )


def _is_fault(failure: Exception) -> bool:
    """Return whether the batch itself is at fault, and would fail again, and not the server, partition or ownership."""
    if isinstance(failure, TurnstreamError):
        return isinstance(failure, (BatchRefused, StoredDataInvalid)) and not isinstance(failure, PartitionRefused)
    return True


def _split_at_unbatched(items: Sequence[Item]) -> Iterable[Sequence[Item]]:
    """Divide before and after each query or operation, so that it sees everything committed before it."""
    unbatched = [
        n for n, item in enumerate(items) if isinstance(item, DecodedCommand) and isinstance(item.command, UNBATCHED)
    ]
    if not unbatched:
        return (items,) if items else ()
    cuts = sorted({0, len(items), *unbatched, *(n + 1 for n in unbatched)})
    return [items[start:end] for start, end in pairwise(cuts)]
