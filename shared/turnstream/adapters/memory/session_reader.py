"""Reads of the repository (design §2)."""

from collections.abc import Sequence

from turnstream.adapters.memory.partition import Partition, StoredSession
from turnstream.adapters.memory.sorted_set import Row
from turnstream.codec.records import INFO_FIELDS, decode_info, decode_message
from turnstream.domain.models import ChatMessage, SessionHeader, SessionInfo, partition_of
from turnstream.errors import MessageNotFound, SessionNotFound
from turnstream.ports import FoundInfo, IndexEntry, MessageRange, SessionReader

_INFO_NAMES = tuple(name.encode() for name in INFO_FIELDS)


class MemoryReader(SessionReader):
    """Reads of the repository, each of one version."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        """Read these partitions."""
        self._partitions = partitions

    async def infos(self, session_ids: Sequence[str]) -> list[FoundInfo]:
        """Return the summaries of these sessions, in their order; `None` for those that are not there."""
        return [_info(self._session(session_id)) for session_id in session_ids]

    async def messages(self, session_id: str, wanted: MessageRange) -> tuple[SessionHeader, tuple[ChatMessage, ...]]:
        """Return a session's header and the wanted messages, oldest first, of one version.

        Raises:
            SessionNotFound: there is no such session.
            MessageNotFound: a message that bounds the range is not there.

        """
        session = self._session(session_id)
        if session is None:
            raise SessionNotFound(session_id)
        after, before = (_bound(session, session_id, message_id) for message_id in (wanted.after, wanted.before))
        rows = session.order.between(after, before, wanted.count, from_end=wanted.from_end)
        messages = tuple(decode_message(session.messages[message_id]) for _, message_id in rows)
        return session.decoded_header().header, messages

    async def index(
        self,
        partition: int,
        beyond: IndexEntry | None,
        count: int,
        *,
        newest_first: bool,
    ) -> list[IndexEntry]:
        """Return up to `count` places of a partition's listing, from `beyond` (exclusive) on."""
        place = (beyond.updated_ms, beyond.session_id) if beyond else None
        after, before = (None, place) if newest_first else (place, None)
        rows = self._partitions[partition].index.between(after, before, count, from_end=newest_first)
        return [IndexEntry(*row) for row in (reversed(rows) if newest_first else rows)]

    async def count(self) -> int:
        """Return how many sessions there are."""
        return sum(len(partition.sessions) for partition in self._partitions)

    def _session(self, session_id: str) -> StoredSession | None:
        partition = partition_of(session_id, len(self._partitions))
        return self._partitions[partition].sessions.get(session_id)


def _info(session: StoredSession | None) -> SessionInfo | None:
    return decode_info([session.header.get(name) for name in _INFO_NAMES]) if session else None


def _bound(session: StoredSession, session_id: str, message_id: str | None) -> Row | None:
    if message_id is None:
        return None
    row = session.order.row(message_id)
    if row is None:
        raise MessageNotFound(session_id, message_id)
    return row
