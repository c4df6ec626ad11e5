"""Load ▸ decide: what a run of commands needs is read, then one after the other is decided (design §3)."""

from collections.abc import Mapping, Sequence

from turnstream.application.batch import BatchInProgress
from turnstream.application.cache import OwnerMemory
from turnstream.application.intake import Accepted, SetAside
from turnstream.application.needs import needs_of
from turnstream.application.parking import BatchParking
from turnstream.application.working import WorkingSession
from turnstream.domain.commands import ALONE, ChangingCommand
from turnstream.domain.pricing import Catalogue
from turnstream.ports import Loaded, LoadedSession, Needs, Outcome, PartitionState, SessionStore

Item = Accepted | SetAside
Failures = Mapping[str, Exception]
"""What commands have failed on, by the ids of their entries: they are parked without being decided."""
NO_FAILURES: Failures = {}

NOTHING = Needs({}, {})
NOTHING_LOADED = Loaded({}, {})


class Deciding:
    """Makes batches out of commands, with what the owner remembers and what is stored."""

    def __init__(self, store: SessionStore, catalogue: Catalogue, memory: OwnerMemory) -> None:
        """Remember only what `memory` does."""
        self._store = store
        self._catalogue = catalogue
        self._memory = memory
        self._known_ms = 0

    def passed(self, now_ms: int) -> None:
        """Note that the server has told this time, so that commands whose time was over by then are not applied."""
        self._known_ms = max(self._known_ms, now_ms)

    async def decided(
        self, state: PartitionState, run: Sequence[Item], failures: Failures, *, thorough: bool
    ) -> BatchInProgress:
        """Decide a run; a command that fails is parked, whatever of it had happened."""
        parking = self.parking(failures)
        needs, loaded = await self.loaded(state, run, parking, thorough=thorough)
        while True:
            batch = self.begun(state, needs, loaded, parking)
            failed = _decide_all(batch, run)
            if not failed:
                return batch
            # It may have half happened: the batch is decided again without it.
            failures = {**failures, **failed}
            parking = self.parking(failures)

    def parking(self, failures: Failures) -> BatchParking:
        """Begin to park."""
        return BatchParking(self._memory.parked, failures)

    async def loaded(
        self, state: PartitionState, run: Sequence[Item], parking: BatchParking | None, *, thorough: bool
    ) -> tuple[Needs, Loaded]:
        """Return what commands need, and what is stored of it; of what is only parked, nothing but outcomes."""
        filtering = parking if parking and parking.active else None
        needs = needs_of(_changing(run, filtering), self._memory.headers.__contains__, thorough=thorough)
        if thorough and filtering:
            # Of a command that stands there twice the first time counts: its outcome lies no later.
            times = {item.entry.command_id: item.entry_ms for item in reversed(run) if isinstance(item, Accepted)}
            needs = Needs(needs.sessions, times)
        if needs.nothing_to_read:
            return needs, NOTHING_LOADED
        return needs, await self._store.load(state.partition, needs)

    async def outcomes(self, state: PartitionState, commands: Mapping[str, int]) -> Mapping[str, Outcome]:
        """Return the earlier outcomes of commands, as far as there are any (id → entry time in ms)."""
        if not commands:
            return {}
        return (await self._store.load(state.partition, Needs({}, commands))).outcomes

    def begun(
        self,
        state: PartitionState,
        needs: Needs = NOTHING,
        loaded: Loaded = NOTHING_LOADED,
        parking: BatchParking | None = None,
    ) -> BatchInProgress:
        """Begin a batch on what was loaded."""
        sessions = self._working(needs, loaded.sessions)
        parking = parking or self.parking({})
        return BatchInProgress(state, sessions, loaded.outcomes, self._catalogue, parking, self._known_ms)

    def _working(self, needs: Needs, loaded: Mapping[str, LoadedSession]) -> dict[str, WorkingSession]:
        sessions: dict[str, WorkingSession] = {}
        for session_id in needs.sessions:
            found = loaded.get(session_id)
            stored = self._memory.headers.get(session_id) or (found.stored if found else None)
            sessions[session_id] = WorkingSession(session_id, stored, found)
        return sessions


def _decide_all(batch: BatchInProgress, run: Sequence[Item]) -> Failures:
    """Decide commands; a bug that one of them meets half-way ends it, so return that one."""
    for item in run:
        if isinstance(item, SetAside):
            batch.set_aside(item)
            continue
        try:
            batch.decide(item)
        except Exception as bug:  # noqa: BLE001 - whatever it is, it is logged
            return {item.raw.entry_id: bug}
    return {}


def _changing(run: Sequence[Item], parking: BatchParking | None) -> list[tuple[str, int, ChangingCommand]]:
    return [
        (item.entry.command_id, item.entry_ms, item.command)
        for item in run
        if isinstance(item, Accepted) and not isinstance(item.command, ALONE) and not (parking and parking.takes(item))
    ]
