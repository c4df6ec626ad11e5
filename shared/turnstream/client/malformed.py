"""`ts.malformed`: what an operator can do with entries that could not be read (design §4)."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from turnstream.domain.models import Entity
from turnstream.errors import InvalidCommand
from turnstream.ports import MalformedEntry, Quarantine, entry_time

READ_TOGETHER = 50
"""Entries that are read in one call."""


class MalformedInfo(Entity, frozen=True):
    """An entry that could not be read: where it is, when it was sent, why, and what is kept of its fields.

    An entry that was `shortened` to be kept cannot be redriven.
    """

    id: str
    sent_at: datetime
    error: str
    fields: dict[str, str]
    shortened: bool = False


class Malformed:
    """The malformed entries of a deployment; an id is the partition, a colon, and the entry's own id."""

    def __init__(self, quarantine: Quarantine, partitions: int) -> None:
        """Look at the store."""
        self._quarantine = quarantine
        self._partitions = partitions

    async def list(self) -> AsyncIterator[MalformedInfo]:
        """Yield all entries that are kept, partition after partition, oldest first."""
        for partition in range(self._partitions):
            async for info in self._of(partition):
                yield info

    async def show(self, malformed_id: str) -> MalformedInfo | None:
        """Return an entry; `None` if there is none of this id."""
        partition, _ = self._place(malformed_id)
        async for info in self._of(partition):
            if info.id == malformed_id:
                return info
        return None

    async def redrive(self, malformed_id: str) -> bool:
        """Send an entry once more, as after an upgrade of the workers; False if there is none of this id.

        Raises:
            InvalidCommand: the id is none, or the entry was kept shortened.
            Overloaded: too many commands wait in its partition.

        """
        found = await self.show(malformed_id)
        if found and found.shortened:
            raise InvalidCommand("$", f"Entry {malformed_id} was too large to be kept whole: send it again yourself")
        return await self._quarantine.requeue(*self._place(malformed_id))

    async def discard(self, malformed_id: str) -> bool:
        """Forget an entry; False if there is none of this id."""
        return await self._quarantine.drop(*self._place(malformed_id))

    async def _of(self, partition: int) -> AsyncIterator[MalformedInfo]:
        behind = ""
        while some := await self._quarantine.malformed(partition, READ_TOGETHER, behind):
            for malformed_id, entry in some:
                yield _info(f"{partition}:{malformed_id}", entry)
            behind = some[-1][0]

    def _place(self, malformed_id: str) -> tuple[int, str]:
        partition, _, entry_id = malformed_id.partition(":")
        if not partition.isdecimal() or int(partition) >= self._partitions or not re.fullmatch(r"\d+-\d+", entry_id):
            raise InvalidCommand("id", "Expected the id of a malformed entry, as a listing shows it")
        return int(partition), entry_id


def _info(malformed_id: str, malformed: MalformedEntry) -> MalformedInfo:
    fields = {
        name.decode(errors="replace"): value.decode(errors="replace") for name, value in malformed.entry.fields.items()
    }
    sent_at = datetime.fromtimestamp(entry_time(malformed.entry.entry_id) / 1000, UTC)
    return MalformedInfo(malformed_id, sent_at, malformed.error, fields, malformed.is_shortened)
