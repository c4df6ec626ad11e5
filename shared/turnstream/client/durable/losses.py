"""What a member of a durable subscription has handled and the server has lost since (design §6)."""

import asyncio
from collections.abc import Callable, Container

from turnstream.client.durable.handling import Handling
from turnstream.client.listening.following import Break
from turnstream.client.listening.resync import ResyncRequired
from turnstream.client.listening.together import together
from turnstream.domain.position import Mark, Position
from turnstream.ports import EventLog, EventPage
from turnstream.telemetry import get_logger

log = get_logger(__name__)

TOGETHER = 64
"""Partitions that are looked at in one go."""


def taken_back(place: Mark | None, page: EventPage) -> Break | None:
    """Tell what a failover or a flush took back of what was handled up to a place.

    Checkpoints go back together with the events, so they know nothing of it.
    """
    if place is None or place[0] == page.generation:
        return None
    survived = dict(page.former).get(place[0])
    if survived is None:
        # Another member began anew there before this one had noticed that all was flushed.
        return Break("reset", None, place) if place[0] else None
    return Break("failover", place[1] - survived, place) if survived < place[1] else None


def resync_of(gone: Break, partition: int, partitions: int, resumed: Mark, session_id: str | None) -> ResyncRequired:
    """Return what tells a handler of a loss, in one of so many partitions."""
    log.warning("history is gone", partition=partition, reason=gone.reason, lost=gone.lost)
    marks: list[Mark | None] = [None] * partitions
    marks[partition] = resumed
    return ResyncRequired(
        partition=partition,
        reason=gone.reason,
        lost=gone.lost,
        seen=gone.seen,
        resumed=resumed,
        position=Position(tuple(marks)),
        session_id=session_id,
    )


class Losses:
    """Looks after what this member has handled in partitions that others hold now: they do not know of it."""

    def __init__(
        self,
        partitions: int,
        places: dict[int, Mark],
        events: EventLog,
        handling: Handling,
        held: Callable[[], Container[int]],
    ) -> None:
        """Look by the places up to which this member has come; `held` tells the partitions that are its own."""
        self._partitions = partitions
        self._places = places
        self._events = events
        self._handling = handling
        self._held = held
        self._looked = 0

    async def look(self) -> None:
        """Tell what was lost in some of these partitions; in others the next time.

        Raises:
            Unavailable: the server does not answer.

        """
        held = self._held()
        away = [partition for partition in self._places if partition not in held]
        start = self._looked % max(1, len(away))
        self._looked += TOGETHER
        some = (away[start:] + away[:start])[:TOGETHER]
        pages = await together(self._events.read(partition, 0, 0) for partition in some)
        for partition, page in zip(some, pages, strict=True):
            await self._compare(partition, page)

    async def _compare(self, partition: int, page: EventPage) -> None:
        place = self._places[partition]
        gone = taken_back(place, page)
        survived = place[1] - (gone.lost or place[1]) if gone else place[1]
        if gone:
            resync = resync_of(gone, partition, self._partitions, (page.generation, survived), None)
            await self._handling.attempt_until_handled(resync, asyncio.Event())
        if self._places[partition] == place:
            # It has not taken the partition meanwhile.
            self._places[partition] = (page.generation, survived)
