"""The owner of a partition at work: load ▸ decide ▸ commit, a batch at a time (design §3)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from turnstream.application.answers import Answers
from turnstream.application.batch import BatchInProgress
from turnstream.application.cache import HeaderCache
from turnstream.application.intake import Accepted, Intake, SetAside, set_aside
from turnstream.application.needs import needs_of
from turnstream.application.working import WorkingSession
from turnstream.codec.envelope import decode_sender
from turnstream.domain.commands import QUERIES, ChangingCommand, Query
from turnstream.domain.pricing import Catalogue
from turnstream.errors import Collision, InvalidCommand, Unavailable
from turnstream.ports import Loaded, LoadedSession, Needs, PartitionState, RawEntry, SessionStore
from turnstream.telemetry import get_logger

log = get_logger(__name__)
Item = Accepted | SetAside


class PartitionProcessor:
    """Applies a partition's commands; it holds what only the partition's owner may remember."""

    def __init__(
        self,
        state: PartitionState,
        intake: Intake,
        store: SessionStore,
        answers: Answers,
        catalogue: Catalogue,
        cache: HeaderCache,
    ) -> None:
        """Start where the partition stands, as its new owner, with an empty cache."""
        self.state = state
        self._intake = intake
        self._store = store
        self._answers = answers
        self._catalogue = catalogue
        self._cache = cache

    async def process(self, entries: Sequence[RawEntry]) -> None:
        """Apply entries, the ones right behind the cursor, in their order.

        Raises:
            Fenced: the partition has another owner; this object is of no use any more.
            Unavailable: the result is unknown; take the partition again and see.

        """
        items = [self._intake.read(entry) for entry in entries]
        for run in _runs(items):
            await self._apply(run)

    async def _apply(self, run: Sequence[Item]) -> None:
        """Apply commands that change something in one step; a query is a run of its own."""
        first = run[0]
        if isinstance(first, Accepted) and isinstance(first.command, QUERIES):
            await self._commit(await self._answered(first, first.command), first.raw)
            return
        try:
            await self._commit(await self._decided(run, thorough=False), run[-1].raw)
        except Collision:
            await self._commit(await self._decided(run, thorough=True), run[-1].raw)

    async def _commit(self, batch: BatchInProgress, last: RawEntry) -> None:
        finished = batch.finished(last.entry_id)
        await self._store.commit(finished)
        self.state = finished.after
        if finished.malformed:
            first = finished.malformed[0].entry.entry_id
            log.warning("entries set aside", partition=self.state.partition, first=first, count=len(finished.malformed))
        for write in finished.writes:
            self._cache.keep(write)

    async def _answered(self, accepted: Accepted, query: Query) -> BatchInProgress:
        batch = BatchInProgress(self.state, {}, {}, self._catalogue)
        if not accepted.entry.reply_to:
            return batch
        try:
            batch.answer(accepted.entry.reply_to, await self._answers.reply(accepted.entry.command_id, query))
        except Unavailable:
            raise
        except Exception as bug:  # noqa: BLE001 - whatever it is, it is logged
            batch.set_aside(self._failed_on(accepted, bug))
        return batch

    async def _decided(self, run: Sequence[Item], *, thorough: bool) -> BatchInProgress:
        needs = needs_of(_changing(run), self._cache.__contains__, thorough=thorough)
        if needs.nothing_to_read:
            loaded = Loaded({}, {})
        else:
            loaded = await self._store.load(self.state.partition, needs)
        while True:
            sessions = self._working(needs, loaded.sessions)
            batch = BatchInProgress(self.state, sessions, loaded.outcomes, self._catalogue)
            failed = self._decide_all(batch, run)
            if failed is None:
                return batch
            # It may have half happened: the batch is decided again without it.
            run = [failed if item.raw is failed.raw else item for item in run]

    def _decide_all(self, batch: BatchInProgress, run: Sequence[Item]) -> SetAside | None:
        """Decide commands; a bug that one of them meets must not stop the others, so return that one set aside."""
        for item in run:
            if isinstance(item, SetAside):
                batch.set_aside(item)
                continue
            try:
                batch.decide(item)
            except Exception as bug:  # noqa: BLE001 - whatever it is, it is logged
                return self._failed_on(item, bug)
        return None

    def _failed_on(self, item: Accepted, bug: Exception) -> SetAside:
        log.error("command set aside", command_id=item.entry.command_id, partition=self.state.partition, exc_info=bug)
        error = InvalidCommand("$", f"The worker failed on it: {type(bug).__name__}")
        return set_aside(item.raw, decode_sender(item.raw.fields), error)

    def _working(self, needs: Needs, loaded: Mapping[str, LoadedSession]) -> dict[str, WorkingSession]:
        sessions: dict[str, WorkingSession] = {}
        for session_id in needs.sessions:
            found = loaded.get(session_id)
            stored = self._cache.get(session_id) or (found.stored if found else None)
            sessions[session_id] = WorkingSession(session_id, stored, found)
        return sessions


def _runs(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut before and behind each query, so that it sees all that was committed before it."""
    run: list[Item] = []
    for item in items:
        if isinstance(item, Accepted) and isinstance(item.command, QUERIES):
            if run:
                yield run
            yield [item]
            run = []
        else:
            run.append(item)
    if run:
        yield run


def _changing(run: Sequence[Item]) -> Iterator[tuple[str, int, ChangingCommand]]:
    for item in run:
        if isinstance(item, Accepted) and not isinstance(item.command, QUERIES):
            yield item.entry.command_id, item.entry_ms, item.command
