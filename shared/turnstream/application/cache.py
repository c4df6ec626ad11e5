"""What a partition's owner keeps in memory: session headers, and which sessions are parked (design §1: one owner)."""

import msgspec

from turnstream.application.parking import ParkedSessions, ParkingLimits
from turnstream.ports import Batch, Quarantine, SessionWrite, StoredHeader


class HeaderCache:
    """The least recently written headers make room for new ones."""

    def __init__(self, capacity: int) -> None:
        """Keep up to `capacity` headers."""
        self._capacity = capacity
        self._headers: dict[str, StoredHeader] = {}

    def __contains__(self, session_id: str) -> bool:
        """Tell whether a header is known."""
        return session_id in self._headers

    def get(self, session_id: str) -> StoredHeader | None:
        """Return a header, if it is known."""
        return self._headers.get(session_id)

    def keep(self, write: SessionWrite) -> None:
        """Remember what a committed batch has left of a session."""
        self._headers.pop(write.session_id, None)
        if write.after is None:
            return
        self._headers[write.session_id] = write.after
        if len(self._headers) > self._capacity:
            del self._headers[next(iter(self._headers))]

    def clear(self) -> None:
        """Forget all headers."""
        self._headers.clear()


class OwnerMemory(msgspec.Struct, frozen=True):
    """What nobody else can change as long as the partition has this owner."""

    headers: HeaderCache
    parked: ParkedSessions

    @classmethod
    def empty(cls, quarantine: Quarantine, partition: int, headers: int, limits: ParkingLimits) -> "OwnerMemory":
        """Return the memory of a new owner, for up to so many headers."""
        return cls(HeaderCache(headers), ParkedSessions(quarantine, partition, limits))

    def keep(self, batch: Batch) -> None:
        """Remember what a committed batch has left."""
        for write in batch.writes:
            self.headers.keep(write)
        if batch.parking:
            self.parked.keep(batch.parking.sessions)
