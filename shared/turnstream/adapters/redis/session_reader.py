"""Reads of the repository (design §2)."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from turnstream.adapters.redis.server import ScriptArgs, Server
from turnstream.adapters.redis.stored_records import RecordLocation, decoded, invalid, read
from turnstream.codec.records import INFO_FIELDS, decode_header, decode_info, decode_message
from turnstream.domain.models import ChatMessage, SessionHeader, partition_of
from turnstream.errors import MessageNotFound, SessionNotFound, StoredDataInvalid
from turnstream.ports import FoundInfo, IndexEntry, MessageRange, SessionReader

MESSAGES_PER_READ = 1_000
"""Messages read in one call, so that a long session does not block the server for long. The number doubles each time
that a change between two pieces makes the reader start again."""


class RedisReader(SessionReader):
    """Reads of the repository; they see every commit that was answered before."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    async def infos(self, session_ids: Sequence[str]) -> list[FoundInfo]:
        """Return the summaries of these sessions, in their order; `None` for those that are not there.

        In place of one that cannot be read is the error that says so, for the others are not to suffer from it.
        """
        by_partition: dict[int, list[str]] = {}
        for session_id in session_ids:
            by_partition.setdefault(self._partition(session_id), []).append(session_id)
        parts = await asyncio.gather(*(self._infos(p, ids) for p, ids in by_partition.items()))
        found = {session_id: info for part in parts for session_id, info in part.items()}
        return [found[session_id] for session_id in session_ids]

    async def messages(self, session_id: str, wanted: MessageRange) -> tuple[SessionHeader, tuple[ChatMessage, ...]]:
        """Return a session's header and the wanted messages, oldest first, of one version.

        Raises:
            SessionNotFound: there is no such session.
            MessageNotFound: a message that bounds the range is not there.

        """
        if "" in (wanted.after, wanted.before):
            raise MessageNotFound(session_id, "")
        size = MESSAGES_PER_READ
        while (found := await self._pieces(session_id, wanted, size)) is None:
            # One call reads a consistent state, so this ends.
            size *= 2
        return found

    async def index(
        self,
        partition: int,
        beyond: IndexEntry | None,
        count: int,
        *,
        newest_first: bool,
    ) -> list[IndexEntry]:
        """Return up to `count` places of a partition's listing, from `beyond` (exclusive) on."""
        # Sessions of the same millisecond are on both sides of `beyond`: read more until enough are after it, always
        # from the start, because a session that is updated moves away and would shift an offset.
        limit = count + 1
        while True:
            rows = await self._index_rows(partition, beyond, limit, newest_first=newest_first)
            found = [e for e in rows if beyond is None or (e < beyond if newest_first else e > beyond)]
            if len(found) >= count or len(rows) < limit:
                return found[:count]
            limit *= 2

    async def count(self) -> int:
        """Return how many sessions there are."""
        indexes = (RecordLocation(keys.index, "zset") for keys in self._server.keys.partitions)
        counts = (read(self._server.calls(number), index, "ZCARD") for number, index in enumerate(indexes))
        return sum(await asyncio.gather(*counts))

    def _partition(self, session_id: str) -> int:
        return partition_of(session_id, len(self._server.keys.partitions))

    async def _infos(self, partition: int, session_ids: Sequence[str]) -> dict[str, FoundInfo]:
        reads = ScriptArgs()
        for session_id in session_ids:
            reads.add("HMGET", self._server.partition(partition).session(session_id), *INFO_FIELDS)
        try:
            answers = await self._server.read(partition, reads)
        except ResponseError:
            # One of them has failed all.
            answers = await asyncio.gather(*(self._fields(partition, i) for i in session_ids), return_exceptions=True)
        return {i: self._info(partition, i, answer) for i, answer in zip(session_ids, answers, strict=True)}

    async def _fields(self, partition: int, session_id: str) -> list[bytes | None]:
        fields: list[bytes | None] = await read(
            self._server.calls(partition), self._header(partition, session_id), "HMGET", *INFO_FIELDS
        )
        return fields

    def _header(self, partition: int, session_id: str) -> RecordLocation:
        return RecordLocation(self._server.partition(partition).session(session_id), "hash", session_id)

    def _info(self, partition: int, session_id: str, answer: list[bytes | None] | BaseException) -> FoundInfo:
        if isinstance(answer, StoredDataInvalid):
            return answer
        if isinstance(answer, BaseException):
            raise answer
        try:
            return decoded(self._header(partition, session_id), decode_info, answer)
        except StoredDataInvalid as error:
            return error

    async def _index_rows(
        self, partition: int, beyond: IndexEntry | None, limit: int, *, newest_first: bool
    ) -> list[IndexEntry]:
        start: str | int = beyond.updated_ms if beyond else ("+inf" if newest_first else "-inf")
        order = ("-inf", "BYSCORE", "REV") if newest_first else ("+inf", "BYSCORE")
        words = (start, *order, "LIMIT", 0, limit, "WITHSCORES")
        index = RecordLocation(self._server.partition(partition).index, "zset")
        return decoded(index, _index_entries, await read(self._server.calls(partition), index, "ZRANGE", *words))

    async def _pieces(
        self,
        session_id: str,
        wanted: MessageRange,
        size: int,
    ) -> tuple[SessionHeader, tuple[ChatMessage, ...]] | None:
        """Read messages page by page; `None` if the session changed between two pages."""
        messages: list[ChatMessage] = []
        version, rest = None, wanted
        while True:
            left = size if wanted.count is None else min(size, wanted.count - len(messages))
            piece = _with_count(rest, left)
            try:
                header, some = await self._piece(session_id, piece)
            except MessageNotFound:
                if version is None:
                    raise
                return None
            if version not in (None, (header.incarnation, header.version)):
                return None
            version = (header.incarnation, header.version)
            messages[0:0] = some if wanted.from_end else ()
            messages += () if wanted.from_end else some
            if len(some) < left or len(messages) == wanted.count:
                return header, tuple(messages)
            rest = _beyond(rest, some)

    async def _piece(self, session_id: str, wanted: MessageRange) -> tuple[SessionHeader, tuple[ChatMessage, ...]]:
        partition = self._partition(session_id)
        keys = self._server.partition(partition)
        header, order, messages = places = (
            self._header(partition, session_id),
            RecordLocation(keys.order(session_id), "zset", session_id),
            RecordLocation(keys.messages(session_id), "hash", session_id),
        )
        arguments = (
            *(wanted.after or "", wanted.before or ""),
            *(-1 if wanted.count is None else wanted.count, int(wanted.from_end)),
        )
        try:
            answer: list[Any] = await self._server.scripts.messages.run(
                self._server.calls(partition),
                [header.key, order.key, messages.key],
                arguments,
            )
        except ResponseError as error:
            code, _, side = str(error).partition(" ")
            if code != "MISSING":
                raise await invalid(self._server.calls(partition), places, error) from None
            raise MessageNotFound(session_id, (wanted.after if side == "1" else wanted.before) or "") from None
        pairs, bodies = answer
        if not pairs:
            raise SessionNotFound(session_id)
        stored = decoded(header, decode_header, pairs)
        return stored.header, decoded(messages, _messages, bodies)


def _messages(bodies: Sequence[bytes]) -> tuple[ChatMessage, ...]:
    return tuple(decode_message(body) for body in bodies)


def _index_entries(rows: Sequence[bytes]) -> list[IndexEntry]:
    return [IndexEntry(int(ms), i.decode()) for i, ms in zip(rows[::2], rows[1::2], strict=True)]


def _with_count(wanted: MessageRange, count: int) -> MessageRange:
    return MessageRange(wanted.after, wanted.before, count, wanted.from_end)


def _beyond(wanted: MessageRange, read: Sequence[ChatMessage]) -> MessageRange:
    """Return the rest of a range, after the messages that were read."""
    if wanted.from_end:
        return MessageRange(wanted.after, read[0].id, wanted.count, from_end=True)
    return MessageRange(read[-1].id, wanted.before, wanted.count)
