"""`ts.parked`: what an operator can do with sessions whose commands cannot be applied (design §4)."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import msgspec

from turnstream.application.routing import partition_of
from turnstream.client.sessions import Executes
from turnstream.codec.commands import check_session_id
from turnstream.domain.commands import DiscardParked, ParkedCommands, QueueProgress, RedriveParked
from turnstream.domain.models import Entity
from turnstream.ports import ParkedCommand, Quarantine, entry_time

SHOWN_TOGETHER = 100
"""Parked commands that are read in one call."""


class ParkedInfo(Entity, frozen=True):
    """A parked session: how many commands and bytes wait, since when, and what keeps the first from being applied."""

    session_id: str
    commands: int
    size: int
    since: datetime
    error: str


class WaitingCommand(Entity, frozen=True):
    """A command that waits in the queue of its parked session; `data` is its JSON."""

    command_id: str
    type: str
    sent_at: datetime
    data: msgspec.Raw


class Parked:
    """The parked sessions of a deployment."""

    def __init__(self, client: Executes, quarantine: Quarantine, partitions: int) -> None:
        """Look at the store, and let the owners of the partitions act."""
        self._client = client
        self._quarantine = quarantine
        self._partitions = partitions

    async def list(self) -> list[ParkedInfo]:
        """Return all parked sessions, the one that waits for longest first."""
        found = [
            ParkedInfo(session_id, parked.count, parked.size, _time(parked.since_ms), parked.error)
            for partition in range(self._partitions)
            for session_id, parked in (await self._quarantine.parked(partition)).items()
        ]
        return sorted(found, key=lambda info: (info.since, info.session_id))

    async def show(self, session_id: str) -> AsyncIterator[WaitingCommand]:
        """Yield the commands that wait, with their contents, in their order."""
        check_session_id(session_id)
        behind = ""
        while some := await self._queue(session_id, SHOWN_TOGETHER, behind):
            for parked in some:
                yield _waiting(parked)
            behind = some[-1].place

    async def redrive(self, session_id: str) -> QueueProgress:
        """Apply the commands of a parked session from the head of its queue, until it is empty or one fails again."""
        return await self._until_empty(RedriveParked(session_id=session_id))

    async def discard(self, session_id: str, *, everything: bool = False) -> QueueProgress:
        """Take the first command of the queue away, the one that failed, or everything; it will not be applied.

        Those behind it stay parked until they are redriven. The producer is answered with `CommandDiscarded`.
        """
        if everything:
            return await self._until_empty(DiscardParked(session_id=session_id))
        check_session_id(session_id)
        first = [_waiting(parked) for parked in await self._queue(session_id, 1)]
        if not first:
            return QueueProgress(0, 0)
        return await self._client.execute(
            DiscardParked(session_id=session_id, head=first[0].command_id, limit=1),
        )

    async def _until_empty(self, operation: ParkedCommands) -> QueueProgress:
        """Repeat an operation, which takes a piece of the queue each time."""
        done = 0
        while True:
            progress = await self._client.execute(operation)
            done += progress.done
            if not progress.left or not progress.done or progress.error:
                return QueueProgress(done, progress.left, progress.error)

    async def _queue(self, session_id: str, count: int, behind: str = "") -> Sequence[ParkedCommand]:
        partition = partition_of(session_id, self._partitions)
        return await self._quarantine.queue(partition, session_id, count, behind)


def _waiting(parked: ParkedCommand) -> WaitingCommand:
    fields = parked.entry.fields
    return WaitingCommand(
        fields.get(b"id", b"").decode(errors="replace"),
        fields.get(b"type", b"").decode(errors="replace"),
        _time(entry_time(parked.entry.entry_id)),
        msgspec.Raw(fields.get(b"data", b"null")),
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
