"""Load ▸ decide: the data that a run of commands needs is read, then they are decided in order (design §3)."""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import cast

from turnstream.application.commands.batch import BatchInProgress, WorkingSession
from turnstream.application.commands.decoder import DecodedCommand, MalformedCommand
from turnstream.application.commands.owner_memory import BatchParking, OwnerMemory
from turnstream.domain.command_specs import COMMAND_SPECS, UNBATCHED
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.prices import Catalogue
from turnstream.ports import Loaded, LoadedSession, Needs, Outcome, PartitionState, SessionNeeds, SessionStore


def needs_of(commands: Iterable[tuple[str, int, ChangingCommand]], cached: Container[str], *, thorough: bool) -> Needs:
    """Join the needs of a batch.

    Nearly every command and every added message is new, so at first it is taken for new, and the commit checks it: most
    batches need no read at all. Only if the commit finds one that is not, the batch is decided again, thoroughly.

    Args:
        commands: the command id, entry time in milliseconds, and command of each.
        cached: the sessions of which the header is known already.
        thorough: also look for earlier outcomes, and for messages under the ids of new ones.

    """
    sessions: dict[str, SessionNeeds] = {}
    times: dict[str, int] = {}
    for command_id, entry_ms, command in commands:
        if thorough:
            times.setdefault(command_id, entry_ms)
        session_id = command.session_id or ""
        needs = sessions.get(session_id)
        if needs is None:
            needs = sessions[session_id] = SessionNeeds(header=session_id not in cached)
        spec = COMMAND_SPECS[type(command)]
        if spec.message_ids:
            needs.message_ids.update(spec.message_ids(command))
        if spec.tail:
            needs.tail += spec.tail(command)
        if thorough and spec.appends:
            needs.message_ids.update(message.id for message in spec.appends(command))
    return Needs(sessions, times)


Item = DecodedCommand | MalformedCommand
Failures = Mapping[str, Exception]
"""The failures of commands, by the ids of their entries: these commands are parked without being decided."""
NO_FAILURES: Failures = {}

NOTHING = Needs({}, {})
NOTHING_LOADED = Loaded({}, {})


def has_reads(needs: Needs) -> bool:
    """Return whether anything that is needed must be read."""
    return bool(needs.commands) or any(n.header or n.message_ids or n.tail for n in needs.sessions.values())


class BatchDecider:
    """Makes batches out of commands, with what the owner remembers and what is stored."""

    def __init__(self, store: SessionStore, catalogue: Catalogue, memory: OwnerMemory) -> None:
        """Remember only what `memory` does."""
        self._store = store
        self._catalogue = catalogue
        self._memory = memory
        self._known_ms = 0

    def note_time(self, now_ms: int) -> None:
        """Note the time of the server: commands that expired by then are not applied."""
        self._known_ms = max(self._known_ms, now_ms)

    async def decide(
        self, state: PartitionState, run: Sequence[Item], failures: Failures, *, thorough: bool
    ) -> BatchInProgress:
        """Decide a run; a command that fails is parked, whatever of it had happened."""
        parking = BatchParking(self._memory.parked, failures) if failures or self._memory.parked.sessions else None
        needs, loaded = await self.load(state, run, parking, thorough=thorough)
        while True:
            batch = self.new_batch(state, needs, loaded, parking)
            failed = batch.decide_all(run)
            if not failed:
                return batch
            # It may have half happened: the batch is decided again without it.
            failures = {**failures, **failed}
            parking = BatchParking(self._memory.parked, failures)

    async def load(
        self, state: PartitionState, run: Sequence[Item], parking: BatchParking | None, *, thorough: bool
    ) -> tuple[Needs, Loaded]:
        """Return what commands need, and what is stored of it; of what is only parked, nothing but outcomes."""
        needs = needs_of(_changing(run, parking), self._memory.headers, thorough=thorough)
        if thorough and parking:
            # For a duplicated command id the earliest entry counts: its outcome is not in a later bucket.
            times = {item.entry.command_id: item.entry_ms for item in reversed(run) if isinstance(item, DecodedCommand)}
            needs = Needs(needs.sessions, times)
        if not has_reads(needs):
            return needs, NOTHING_LOADED
        return needs, await self._store.load(state.partition, needs)

    async def outcomes(self, state: PartitionState, commands: Mapping[str, int]) -> Mapping[str, Outcome]:
        """Return the earlier outcomes of commands, as far as there are any (id → entry time in ms)."""
        if not commands:
            return {}
        return (await self._store.load(state.partition, Needs({}, commands))).outcomes

    def new_batch(
        self,
        state: PartitionState,
        needs: Needs = NOTHING,
        loaded: Loaded = NOTHING_LOADED,
        parking: BatchParking | None = None,
    ) -> BatchInProgress:
        """Begin a batch on what was loaded."""
        sessions = self._working_sessions(needs, loaded.sessions)
        return BatchInProgress(state, sessions, loaded.outcomes, self._catalogue, parking, self._known_ms)

    def _working_sessions(self, needs: Needs, loaded: Mapping[str, LoadedSession]) -> dict[str, WorkingSession]:
        sessions: dict[str, WorkingSession] = {}
        for session_id in needs.sessions:
            found = loaded.get(session_id)
            stored = self._memory.headers.get(session_id) or (found.stored if found else None)
            sessions[session_id] = WorkingSession(session_id, stored, found)
        return sessions


def _changing(run: Sequence[Item], parking: BatchParking | None) -> list[tuple[str, int, ChangingCommand]]:
    return [
        (item.entry.command_id, item.entry_ms, cast("ChangingCommand", item.command))
        for item in run
        if isinstance(item, DecodedCommand)
        and not isinstance(item.command, UNBATCHED)
        and not (parking and parking.takes(item))
    ]
