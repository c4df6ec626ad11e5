"""`ts.admin.parked`: sessions with a command that cannot be applied, and their dead-letter queues (design §4)."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import msgspec

from turnstream.client.sessions import Executes
from turnstream.codec.envelope import check_session_id, entry_time
from turnstream.domain.commands import DiscardParked, ParkedCommands, QueueProgress, RedriveParked
from turnstream.domain.models import Entity, partition_of
from turnstream.ports import ParkedCommand, Quarantine

COMMANDS_PER_PAGE = 100
"""Parked commands that one call reads."""


class ParkedInfo(Entity, frozen=True):
    """A parked session: the number and bytes of its waiting commands, their age, and the first one's error."""

    session_id: str
    commands: int
    size: int
    since: datetime
    error: str


class WaitingCommand(Entity, frozen=True):
    """A command in the dead-letter queue of its session; `data` is its JSON."""

    command_id: str
    type: str
    sent_at: datetime
    data: msgspec.Raw


class ParkedAdmin:
    """The parked sessions of a deployment."""

    def __init__(self, client: Executes, quarantine: Quarantine, partitions: int) -> None:
        """Read the queues from the store; `client` sends commands to the owners of the partitions to change them."""
        self._client = client
        self._quarantine = quarantine
        self._partitions = partitions

    async def list(self) -> AsyncIterator[ParkedInfo]:
        """Yield all parked sessions, the one that has waited longest first."""
        found = [
            ParkedInfo(session_id, parked.count, parked.size, _time(parked.since_ms), parked.error)
            for partition in range(self._partitions)
            for session_id, parked in (await self._quarantine.parked(partition)).items()
        ]
        for info in sorted(found, key=lambda info: (info.since, info.session_id)):
            yield info

    async def show(self, session_id: str) -> AsyncIterator[WaitingCommand]:
        """Yield the waiting commands of a session with their contents, in their order."""
        check_session_id(session_id)
        after = ""
        while commands := await self._queue(session_id, COMMANDS_PER_PAGE, after):
            for parked in commands:
                yield _waiting(parked)
            after = commands[-1].queue_id

    async def redrive(self, session_id: str) -> QueueProgress:
        """Apply the commands of a parked session in order, until one fails or its queue is empty."""
        return await self._until_empty(RedriveParked(session_id=session_id))

    async def discard(self, session_id: str, *, everything: bool = False) -> QueueProgress:
        """Discard the first command of the queue, the one that failed, or all of them; it is never applied.

        The other commands stay parked until they are redriven. The producer receives `CommandDiscarded`.
        """
        if everything:
            return await self._until_empty(DiscardParked(session_id=session_id))
        check_session_id(session_id)
        first = [_waiting(parked) for parked in await self._queue(session_id, 1)]
        if not first:
            return QueueProgress(done=0, left=0)
        return await self._client.execute(
            DiscardParked(session_id=session_id, head=first[0].command_id, limit=1),
        )

    async def _until_empty(self, operation: ParkedCommands) -> QueueProgress:
        """Repeat an operation: each time, the owner processes a limited number of commands of the queue."""
        done = 0
        while True:
            progress = await self._client.execute(operation)
            done += progress.done
            if not progress.left or not progress.done or progress.error:
                return QueueProgress(done=done, left=progress.left, error=progress.error)

    async def _queue(self, session_id: str, count: int, after: str = "") -> Sequence[ParkedCommand]:
        partition = partition_of(session_id, self._partitions)
        return await self._quarantine.queue(partition, session_id, count, after)


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
