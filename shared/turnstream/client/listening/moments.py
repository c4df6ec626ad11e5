"""Positions by time: where the history of a deployment stands now, or stood at a moment (design §6)."""

import asyncio
from datetime import datetime

from turnstream.client.listening.following import beginning
from turnstream.client.listening.together import together
from turnstream.codec.events import decode_timestamp
from turnstream.domain.position import Mark, Position
from turnstream.ports import Backend

TOGETHER = 16
"""Streams that are searched at the same time."""


async def position(backend: Backend, since: datetime | None) -> Position:
    """Return the position at the heads of all streams, or the one behind which the events since a moment come."""
    searching = asyncio.Semaphore(TOGETHER)

    async def one(partition: int) -> Mark:
        async with searching:
            return await _mark(backend, partition, since)

    return Position(tuple(await together(map(one, range(backend.partitions)))))


async def _mark(backend: Backend, partition: int, since: datetime | None) -> Mark:
    page = await backend.events.read(partition, 0, 0)
    if since is None:
        return page.generation, page.head
    before, behind = beginning(page), page.head
    while before < behind:
        middle = (before + behind) // 2
        found = (await backend.events.read(partition, middle, 1)).payloads
        if found and decode_timestamp(found[0][1]) < since:
            before = found[0][0]
        else:
            behind = middle
    return page.generation, before
