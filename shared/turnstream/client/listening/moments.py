"""Positions by time: where the history of a deployment stands now, or stood at a moment (design §6)."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

from turnstream.client.listening.together import together
from turnstream.codec.events import decode_timestamp
from turnstream.domain.position import Mark, Position
from turnstream.ports import Backend
from turnstream.ports.values import EPOCH

TOGETHER = 16
"""Streams that are searched at the same time."""

PIECE = 500
"""Events that are read from a stream at a time."""

CLOCKS_APART = timedelta(minutes=1)
"""How far the clocks of a server and of the one that takes its place may be apart."""


def moment(age: str) -> datetime:
    """Return the time that lies `10m`, `2h`, `1d`, `30s` or `1h30m` back.

    Raises:
        ValueError: it is no such text.

    """
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", age)
    numbers = [int(number or 0) for number in found.groups()] if age and found else []
    try:
        days, hours, minutes, seconds = numbers
        return datetime.now(UTC) - timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (ValueError, OverflowError):
        raise ValueError(f"{age!r} is no time like 30s, 10m, 2h or 1h30m") from None


async def position(backend: Backend, since: datetime | None) -> Position:
    """Return the position at the heads of all streams, or the one behind which the events since a moment come."""
    searching = asyncio.Semaphore(TOGETHER)

    async def one(partition: int) -> Mark:
        async with searching:
            return await (_head(backend, partition) if since is None else _mark(backend, partition, since))

    return Position(tuple(await together(map(one, range(backend.partitions)))))


async def _head(backend: Backend, partition: int) -> Mark:
    page = await backend.events.read(partition, 0, 0)
    return page.generation, page.head


async def _mark(backend: Backend, partition: int, since: datetime) -> Mark:
    """Return the place before the first event that is not older than a moment.

    Times do not ascend: what was parked and redriven is old among the new. So no event says that none before it is
    younger; but what was written before the moment is older than it, and only what came later is looked through.
    """
    long_before = max(since, EPOCH + CLOCKS_APART) - CLOCKS_APART
    before = await backend.events.written_before(partition, long_before)
    while True:
        page = await backend.events.read(partition, before, PIECE)
        for sequence, payload in page.payloads:
            if decode_timestamp(payload) >= since:
                return page.generation, sequence - 1
            before = sequence
        if before >= page.head or not page.payloads:
            return page.generation, page.head
