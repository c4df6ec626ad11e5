"""Operations on parked sessions and malformed entries, without asyncio."""

from collections.abc import Iterator

from turnstream.client.admin.malformed_entries import Malformed as AsyncMalformed
from turnstream.client.admin.malformed_entries import MalformedInfo
from turnstream.client.admin.parked_sessions import Parked as AsyncParked
from turnstream.client.admin.parked_sessions import ParkedInfo, WaitingCommand
from turnstream.domain.commands import QueueProgress
from turnstream.sync.portal import Portal
from turnstream.sync.sessions import some


class Parked:
    """The parked sessions of a deployment; see the same calls of the async client."""

    def __init__(self, portal: Portal, parked: AsyncParked) -> None:
        """Hand calls over."""
        self._portal = portal
        self._parked = parked

    def list(self) -> list[ParkedInfo]:
        """Return all parked sessions, the one that waits for longest first."""
        return self._portal.call(self._parked.list())

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


class Malformed:
    """The malformed entries of a deployment; see the same calls of the async client."""

    def __init__(self, portal: Portal, malformed: AsyncMalformed) -> None:
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
