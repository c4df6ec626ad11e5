"""Listing sessions over all partitions, in the order of their last update (design §9)."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from itertools import chain

from turnstream.domain.commands import ListSessions
from turnstream.domain.models import SessionInfo, SessionPage
from turnstream.errors import InvalidCommand, StoredDataInvalid
from turnstream.logging import get_logger
from turnstream.ports import IndexEntry, SessionReader

log = get_logger(__name__)

Found = tuple[IndexEntry, SessionInfo | StoredDataInvalid]
"""A session of a page, and its place."""

MAX_SCANNED = 20_000
"""Sessions that one page looks at; a filter that matches less often gives short pages with a cursor."""

PAGE_CHUNK = 16
"""Places read of each partition at a time for a page."""

WALK_CHUNK = 256
"""Places read of each partition at a time to walk over all sessions."""


async def page(reader: SessionReader, partitions: int, query: ListSessions) -> SessionPage:
    """Return the sessions after the query's cursor that match it, most recently updated first.

    Sessions that cannot be read are named as well, whatever the filter: their fields are not known.

    Raises:
        InvalidCommand: the cursor was not made by this library.

    """
    found: list[Found] = []
    last, scanned = decode_cursor(query.cursor), 0
    async for entries in in_order(reader, partitions, last, PAGE_CHUNK, newest_first=True):
        for entry, info in zip(entries, await reader.infos([e.session_id for e in entries]), strict=True):
            if info and (isinstance(info, StoredDataInvalid) or _matches(info, query)):
                found.append((entry, info))
        if len(found) > query.limit:
            return _page(found[: query.limit], found[query.limit - 1][0])
        last, scanned = entries[-1], scanned + len(entries)
        if scanned >= MAX_SCANNED:
            return _page(found, last)
    return _page(found, None)


async def walk(reader: SessionReader, partitions: int, wanted: ListSessions) -> AsyncIterator[SessionInfo]:
    """Yield every session that matches the filter of `wanted` once, the least recently updated first.

    A session that is updated during the walk moves to the end; the ids that were seen are kept (about 100 bytes each).

    Raises:
        StoredDataInvalid: at the end, after all others, where a session could not be read: the first such.

    """
    seen: set[str] = set()
    unreadable: list[StoredDataInvalid] = []
    async for entries in in_order(reader, partitions, None, WALK_CHUNK, newest_first=False):
        fresh = [entry.session_id for entry in entries if entry.session_id not in seen]
        seen.update(fresh)
        for info in await reader.infos(fresh):
            if isinstance(info, StoredDataInvalid):
                log.warning("session cannot be read", session_id=info.session_id, key=info.key, reason=info.reason)
                unreadable.append(info)
            elif info and _matches(info, wanted):
                yield info
    if unreadable:
        raise unreadable[0]


async def in_order(
    reader: SessionReader,
    partitions: int,
    beyond: IndexEntry | None,
    count: int,
    *,
    newest_first: bool,
) -> AsyncIterator[Sequence[IndexEntry]]:
    """Yield the index entries after `beyond` in order, merged from all partitions, `count` of each in one read."""
    while True:
        chunks = await asyncio.gather(
            *(reader.index(partition, beyond, count, newest_first=newest_first) for partition in range(partitions)),
        )
        # A partition may have more entries after the last one that was read; before all of these the merge is complete.
        open_ends = [chunk[-1] for chunk in chunks if len(chunk) == count]
        entries = sorted(chain.from_iterable(chunks), reverse=newest_first)
        if open_ends and newest_first:
            entries = [entry for entry in entries if entry >= max(open_ends)]
        elif open_ends:
            entries = [entry for entry in entries if entry <= min(open_ends)]
        if entries:
            yield entries
            beyond = entries[-1]
        if not open_ends:
            return


def encode_cursor(entry: IndexEntry) -> str:
    """Return a place in the listing as opaque text."""
    return urlsafe_b64encode(f"{entry.updated_ms}:{entry.session_id}".encode()).decode()


def decode_cursor(cursor: str | None) -> IndexEntry | None:
    """Return the place that a cursor stands for.

    Raises:
        InvalidCommand: it was not made by this library.

    """
    if cursor is None:
        return None
    try:
        updated_ms, session_id = urlsafe_b64decode(cursor.encode()).decode().split(":", 1)
        return IndexEntry(int(updated_ms), session_id)
    except ValueError as error:
        raise InvalidCommand("$.cursor", "Not a cursor: pass the next_cursor of an earlier page") from error


def _matches(info: SessionInfo, query: ListSessions) -> bool:
    return (
        query.provider in (None, info.provider)
        and query.model in (None, info.model)
        and query.is_active in (None, info.is_active)
    )


def _page(found: Sequence[Found], last: IndexEntry | None) -> SessionPage:
    return SessionPage(
        sessions=tuple(info for _, info in found if not isinstance(info, StoredDataInvalid)),
        next_cursor=encode_cursor(last) if last else None,
        unreadable=tuple(entry.session_id for entry, info in found if isinstance(info, StoredDataInvalid)),
    )
