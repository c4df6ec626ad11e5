"""Commands that a worker may have died of are tried alone, each noted before it is looked at (design §4)."""

from turnstream.application.deciding import NO_FAILURES, Failures, Item
from turnstream.application.intake import Accepted, Intake
from turnstream.application.parking import can_be_parked
from turnstream.domain.commands import ALONE
from turnstream.errors import InvalidCommand, WorkerDied
from turnstream.ports import PartitionState, Quarantine, RawEntry
from turnstream.telemetry import get_logger

log = get_logger(__name__)

ATTEMPTS = 3
"""How many workers may die of one command before it is parked without being decided."""


class Suspicion:
    """Of the commands behind the cursor, so many as the owner before may have had in hand when it died."""

    def __init__(self, quarantine: Quarantine, intake: Intake, suspects: int) -> None:
        """Suspect that many commands: none, unless owners died without moving the cursor."""
        self.left = suspects
        self._quarantine = quarantine
        self._intake = intake

    async def examine(self, state: PartitionState, raw: RawEntry) -> tuple[Item, Failures]:
        """Return what is to be done with the next command: to decide it, to park it, or to set it aside."""
        deaths = await self._quarantine.attempt(state, raw.entry_id)
        self.left -= 1
        if deaths > ATTEMPTS:
            # They died of what was to park it, so it must not even be read.
            return self._refused(raw, deaths), NO_FAILURES
        item = self._intake.read(raw)
        if deaths < ATTEMPTS or not isinstance(item, Accepted):
            return item, NO_FAILURES
        if isinstance(item.command, ALONE) or not can_be_parked(item):
            return self._refused(raw, deaths), NO_FAILURES
        return item, {raw.entry_id: WorkerDied(deaths)}

    def _refused(self, raw: RawEntry, deaths: int) -> Item:
        log.error("entry set aside: workers died on it", entry_id=raw.entry_id, deaths=deaths)
        return self._intake.refuse(raw, InvalidCommand("$", str(WorkerDied(deaths))))
