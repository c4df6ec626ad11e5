"""Isolation of commands that may have crashed a worker: they are tried a few at a time, then alone (ADR 13)."""

from collections.abc import Sequence

from turnstream.application.commands.batch_decider import NO_FAILURES, Failures, Item
from turnstream.application.commands.decoder import CommandDecoder, DecodedCommand
from turnstream.application.commands.owner_memory import can_be_parked
from turnstream.domain.command_specs import UNBATCHED
from turnstream.errors import InvalidCommand
from turnstream.logging import get_logger
from turnstream.ports import PartitionState, Quarantine, RawEntry
from turnstream.signals import WorkerDied

log = get_logger(__name__)

MAX_DEATHS = 3
"""How many workers may die of one command before it is parked without being decided."""

COMMANDS_PER_TRY = 16
"""Commands that are tried at the same time: so hundreds of them cost a few dozen commits."""


class CrashIsolation:
    """The commands after the cursor that the previous owner may have had in flight when it died."""

    def __init__(self, quarantine: Quarantine, decoder: CommandDecoder, suspects: int) -> None:
        """Suspect that many commands: none, unless owners died without moving the cursor."""
        self.left = suspects
        self._alone = 0
        """So many of the next ones are tried alone, for an owner died of those that it tried together."""
        self._quarantine = quarantine
        self._decoder = decoder

    async def examine(self, state: PartitionState, entries: Sequence[RawEntry]) -> tuple[Sequence[Item], Failures]:
        """Return the first of some entries with their treatment: decide them, or park or quarantine one.

        The first one is noted, before any of them is looked at.
        """
        deaths = await self._quarantine.attempt(state, entries[0].entry_id)
        if deaths:
            self._alone = COMMANDS_PER_TRY
        some = entries[: 1 if self._alone else min(COMMANDS_PER_TRY, self.left)]
        self.left -= len(some)
        self._alone = max(0, self._alone - len(some))
        if deaths:
            item, failures = self._judged(some[0], deaths)
            return [item], failures
        return [self._decoder.read(raw) for raw in some], NO_FAILURES

    def _judged(self, raw: RawEntry, deaths: int) -> tuple[Item, Failures]:
        if deaths > MAX_DEATHS:
            # Workers died while they parked it, so it must not even be read.
            return self._refused(raw, deaths), NO_FAILURES
        item = self._decoder.read(raw)
        if deaths < MAX_DEATHS or not isinstance(item, DecodedCommand):
            return item, NO_FAILURES
        if isinstance(item.command, UNBATCHED) or not can_be_parked(item):
            return self._refused(raw, deaths), NO_FAILURES
        return item, {raw.entry_id: WorkerDied(deaths)}

    def _refused(self, raw: RawEntry, deaths: int) -> Item:
        log.error("entry quarantined: it has crashed workers", entry_id=raw.entry_id, deaths=deaths)
        return self._decoder.refuse(raw, InvalidCommand("$", str(WorkerDied(deaths))))
