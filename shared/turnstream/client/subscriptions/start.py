"""The request of a subscriber: which types of events, and from which position or time (design §6)."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from turnstream.client.subscriptions.pages import EVENTS_PER_PAGE
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.client.subscriptions.tasks import gather_all_or_cancel
from turnstream.codec.events import decode_timestamp
from turnstream.domain.events import EVENTS, Event
from turnstream.domain.position import LogPosition, Position
from turnstream.ports import Backend
from turnstream.ports.values import EPOCH

Start = Literal["now", "beginning"] | Position

SEARCHES_AT_ONCE = 16
"""Event logs that are searched concurrently."""

MAX_CLOCK_DIFFERENCE = timedelta(minutes=1)
"""How far the clocks of a server and of its successor may differ."""


def types_of(classes: Sequence[object]) -> list[str]:
    """Return the wire types of classes of events; an empty list, like the class `Event`, means all types.

    Raises:
        ValueError: one of them is not a class of events.

    """
    for given in classes:
        if given is ResyncRequired:
            raise ValueError("Every subscription receives ResyncRequired: name only the events that you want")
        if given is not Event and given not in EVENTS.values():
            known = ", ".join(event.__name__ for event in EVENTS.values())
            raise ValueError(f"{given!r} is not a class of events; these are: {known}, and Event for all")
    return [] if Event in classes else [name for name, event in EVENTS.items() if event in classes]


def checked_start(start: Start, own: Iterable[int], partitions: int) -> Start:
    """Return `start` if it fits a deployment of `partitions` and has a log position for each partition of `own`.

    Raises:
        ValueError: the position belongs to another deployment, or to other sessions.

    """
    if not isinstance(start, Position):
        if start not in get_args(get_args(Start)[0]):
            raise ValueError(f"start is 'now', 'beginning' or a Position, not {start!r}")
        return start
    if len(start.log_positions) != partitions:
        raise ValueError(f"The position is of {len(start.log_positions)} partitions, the deployment has {partitions}")
    missing = [number for number in own if start.log_positions[number] is None]
    if missing:
        raise ValueError(
            f"The position does not include partition {missing[0]}: a subscription to one session stored it, "
            "and it is valid for that session only",
        )
    return start


def parse_age(age: str) -> datetime:
    """Return the time `30s`, `10m`, `2h`, `1d` or `1h30m` ago.

    Raises:
        ValueError: the text does not have this form.

    """
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", age)
    numbers = [int(number or 0) for number in found.groups()] if age and found else []
    try:
        days, hours, minutes, seconds = numbers
        return datetime.now(UTC) - timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (ValueError, OverflowError):
        raise ValueError(f"{age!r} is not an age like 30s, 10m, 2h or 1h30m") from None


async def find_position(backend: Backend, since: datetime | None) -> Position:
    """Return the position before the first events that are not older than `since`; without it, the current one.

    Raises:
        Unavailable: the server does not answer.

    """
    searching = asyncio.Semaphore(SEARCHES_AT_ONCE)

    async def find(partition: int) -> LogPosition:
        async with searching:
            return await (_head(backend, partition) if since is None else _before(backend, partition, since))

    return Position(tuple(await gather_all_or_cancel(map(find, range(backend.partitions)))))


async def _head(backend: Backend, partition: int) -> LogPosition:
    page = await backend.events.read(partition, 0, 0)
    return LogPosition(page.generation, page.head)


async def _before(backend: Backend, partition: int, since: datetime) -> LogPosition:
    """Return the position before the first event that is not older than `since`.

    The times in an event log do not ascend: a redriven command is older than the commands around it. So a binary
    search is not possible. But an event that was written before `since` is older than it, and only later ones are read.
    """
    long_before = max(since, EPOCH + MAX_CLOCK_DIFFERENCE) - MAX_CLOCK_DIFFERENCE
    before = await backend.events.written_before(partition, long_before)
    while True:
        page = await backend.events.read(partition, before, EVENTS_PER_PAGE)
        for sequence, payload in page.payloads:
            if decode_timestamp(payload) >= since:
                return LogPosition(page.generation, sequence - 1)
            before = sequence
        if before >= page.head or not page.payloads:
            return LogPosition(page.generation, page.head)
