"""`ts.admin` without asyncio: what operators see and change."""

from collections.abc import Iterator

from turnstream.client.admin.admin import Admin as AsyncAdmin
from turnstream.client.admin.malformed_entries import MalformedAdmin as AsyncMalformedAdmin
from turnstream.client.admin.malformed_entries import MalformedInfo
from turnstream.client.admin.parked_sessions import ParkedAdmin as AsyncParkedAdmin
from turnstream.client.admin.parked_sessions import ParkedInfo, WaitingCommand
from turnstream.client.admin.workers import WorkerAdmin as AsyncWorkerAdmin
from turnstream.client.admin.workers import WorkerInfo
from turnstream.domain.commands import QueueProgress
from turnstream.sync.consumer import ConsumerAdmin
from turnstream.sync.portal import Portal
from turnstream.sync.sessions import some


class ParkedAdmin:
    """The parked sessions of a deployment; see the same calls of the async client."""

    def __init__(self, portal: Portal, parked: AsyncParkedAdmin) -> None:
        """Hand calls over."""
        self._portal = portal
        self._parked = parked

    def list(self) -> Iterator[ParkedInfo]:
        """Yield all parked sessions, the one that has waited longest first."""
        infos = self._parked.list()
        while found := self._portal.call(some(infos)):
            yield from found

    def show(self, session_id: str) -> Iterator[WaitingCommand]:
        """Yield the commands that wait, with their contents, in their order."""
        waiting = self._parked.show(session_id)
        while found := self._portal.call(some(waiting)):
            yield from found

    def redrive(self, session_id: str) -> QueueProgress:
        """Apply the commands of a parked session from the head of its queue, until it is empty or one fails again."""
        return self._portal.call(self._parked.redrive(session_id))

    def discard(self, session_id: str, *, everything: bool = False) -> QueueProgress:
        """Take the first command of the queue away, the one that failed, or everything."""
        return self._portal.call(self._parked.discard(session_id, everything=everything))


class MalformedAdmin:
    """The malformed entries of a deployment; see the same calls of the async client."""

    def __init__(self, portal: Portal, malformed: AsyncMalformedAdmin) -> None:
        """Hand calls over."""
        self._portal = portal
        self._malformed = malformed

    def list(self) -> Iterator[MalformedInfo]:
        """Yield all entries that are kept, partition after partition, oldest first."""
        infos = self._malformed.list()
        while found := self._portal.call(some(infos)):
            yield from found

    def show(self, malformed_id: str) -> MalformedInfo | None:
        """Return an entry; `None` if there is none of this id."""
        return self._portal.call(self._malformed.show(malformed_id))

    def redrive(self, malformed_id: str) -> bool:
        """Send an entry once more; False if there is none of this id."""
        return self._portal.call(self._malformed.redrive(malformed_id))

    def discard(self, malformed_id: str) -> bool:
        """Forget an entry; False if there is none of this id."""
        return self._portal.call(self._malformed.discard(malformed_id))


class WorkerAdmin:
    """The workers of a deployment; see the same calls of the async client."""

    def __init__(self, portal: Portal, workers: AsyncWorkerAdmin) -> None:
        """Hand calls over."""
        self._portal = portal
        self._workers = workers

    def list(self) -> Iterator[WorkerInfo]:
        """Yield the live workers, by id."""
        infos = self._workers.list()
        while found := self._portal.call(some(infos)):
            yield from found


class Admin:
    """The operations of a deployment; every list is an iterator."""

    def __init__(self, portal: Portal, admin: AsyncAdmin) -> None:
        """Hand calls over."""
        self.parked = ParkedAdmin(portal, admin.parked)
        self.malformed = MalformedAdmin(portal, admin.malformed)
        self.consumers = ConsumerAdmin(portal, admin.consumers)
        self.workers = WorkerAdmin(portal, admin.workers)
