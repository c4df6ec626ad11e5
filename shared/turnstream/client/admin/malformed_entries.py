"""`ts.admin.malformed`: the quarantined entries of command streams, which could not be decoded (design §4)."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from turnstream.codec.envelope import entry_time
from turnstream.domain.models import Entity
from turnstream.errors import InvalidCommand
from turnstream.ports import MalformedEntry, Quarantine

ENTRIES_PER_PAGE = 50
"""Entries that one call reads."""


class MalformedInfo(Entity, frozen=True):
    """A quarantined entry: its id, when it was sent, why it could not be decoded, and its fields.

    An entry too large for the quarantine is `shortened`; it cannot be redriven.
    """

    id: str
    sent_at: datetime
    error: str
    fields: dict[str, str]
    shortened: bool = False


class MalformedAdmin:
    """The malformed entries of a deployment; an id is `partition:entry id`."""

    def __init__(self, quarantine: Quarantine, partitions: int) -> None:
        """Operate on the quarantine of a deployment."""
        self._quarantine = quarantine
        self._partitions = partitions

    async def list(self) -> AsyncIterator[MalformedInfo]:
        """Yield all quarantined entries, partition by partition, oldest first."""
        for partition in range(self._partitions):
            async for info in self._of(partition):
                yield info

    async def show(self, malformed_id: str) -> MalformedInfo | None:
        """Return an entry; `None` if there is no entry with this id."""
        partition, _ = self._parse(malformed_id)
        async for info in self._of(partition):
            if info.id == malformed_id:
                return info
        return None

    async def redrive(self, malformed_id: str) -> bool:
        """Send an entry again, as after an upgrade of the workers; return False if there is no entry with this id.

        Raises:
            InvalidCommand: this is not an id, or the entry was shortened or is empty.
            Overloaded: too many commands wait in its partition.

        """
        found = await self.show(malformed_id)
        if found and (found.shortened or not found.fields):
            problem = "was too large to be stored whole" if found.shortened else "has no fields"
            raise InvalidCommand("$", f"Entry {malformed_id} {problem}: its producer has to send it again")
        return await self._quarantine.requeue(*self._parse(malformed_id))

    async def discard(self, malformed_id: str) -> bool:
        """Delete an entry; return False if there is no entry with this id."""
        return await self._quarantine.drop(*self._parse(malformed_id))

    async def _of(self, partition: int) -> AsyncIterator[MalformedInfo]:
        after = ""
        while entries := await self._quarantine.malformed(partition, ENTRIES_PER_PAGE, after):
            for malformed_id, entry in entries:
                yield _info(f"{partition}:{malformed_id}", entry)
            after = entries[-1][0]

    def _parse(self, malformed_id: str) -> tuple[int, str]:
        partition, _, entry_id = malformed_id.partition(":")
        if not partition.isdecimal() or int(partition) >= self._partitions or not re.fullmatch(r"\d+-\d+", entry_id):
            raise InvalidCommand("id", "Expected the id of a malformed entry, as `list` shows it")
        return int(partition), entry_id


def _info(malformed_id: str, malformed: MalformedEntry) -> MalformedInfo:
    fields = {
        name.decode(errors="replace"): value.decode(errors="replace") for name, value in malformed.entry.fields.items()
    }
    sent_at = datetime.fromtimestamp(entry_time(malformed.entry.entry_id) / 1000, UTC)
    return MalformedInfo(malformed_id, sent_at, malformed.error, fields, malformed.is_shortened)
