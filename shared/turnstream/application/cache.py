"""The session headers that a partition's owner keeps in memory (design §1: one owner)."""

from turnstream.ports import SessionWrite, StoredHeader


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
