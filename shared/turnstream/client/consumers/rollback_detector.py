"""Detects that the server has lost events which this consumer has handled (design §6).

Checkpoints are stored with the events, so a failover rolls back both together, and the stored state does not show that
events are lost. The consumer therefore remembers, for each partition, the position up to which it has handled events,
and compares it with the generations that a page lists:

- the same generation: nothing was rolled back;
- a former generation: the events after its last surviving one were rolled back (`failover`);
- an unknown generation: the history was flushed, or the server is another one (`reset`).

In a partition that the consumer owns, its reader compares each page. In those that other consumers own now,
`RollbackDetector` does: the new owner has not handled these events and cannot know.
"""

import asyncio
from collections.abc import Container

from turnstream.client.consumers.handler_calls import HandlerCalls
from turnstream.client.subscriptions.resync import HistoryGap, position_of_one, resync_for
from turnstream.client.subscriptions.tasks import gather_all_or_cancel
from turnstream.domain.position import LogPosition
from turnstream.ports import EventLog, EventPage

PARTITIONS_PER_CHECK = 64
"""Partitions that one check compares; the next check continues after them."""


def detect_rollback(handled: LogPosition | None, page: EventPage) -> HistoryGap | None:
    """Return the events that were handled up to a position and have been rolled back or flushed, if any."""
    if handled is None or handled.generation == page.generation:
        return None
    survived = dict(page.former).get(handled.generation)
    if survived is None:
        # After a flush, another consumer may have started a new history before this one noticed.
        return HistoryGap("reset", None, handled) if handled.generation else None
    lost = handled.sequence - survived
    return HistoryGap("failover", lost, handled) if lost > 0 else None


class RollbackDetector:
    """Detects rollbacks in partitions that this consumer handled earlier and others own now."""

    def __init__(
        self,
        partitions: int,
        handled: dict[int, LogPosition],
        events: EventLog,
        calls: HandlerCalls,
    ) -> None:
        """Compare with `handled`, the positions by partition."""
        self._partitions = partitions
        self._handled = handled
        self._events = events
        self._calls = calls
        self._checked = 0

    async def check(self, owned: Container[int]) -> None:
        """Compare some partitions that are not `owned`; call the handler with a `ResyncRequired` for each rollback.

        Raises:
            Unavailable: the server does not answer.

        """
        others = [partition for partition in self._handled if partition not in owned]
        first = self._checked % max(1, len(others))
        self._checked += PARTITIONS_PER_CHECK
        some = (others[first:] + others[:first])[:PARTITIONS_PER_CHECK]
        pages = await gather_all_or_cancel(self._events.read(partition, 0, 0) for partition in some)
        for partition, page in zip(some, pages, strict=True):
            await self._compare(partition, page)

    async def _compare(self, partition: int, page: EventPage) -> None:
        handled = self._handled[partition]
        gap = detect_rollback(handled, page)
        survived = handled.sequence
        if gap:
            survived = 0 if gap.lost is None else handled.sequence - gap.lost
            resumed = LogPosition(page.generation, survived)
            resync = resync_for(gap, partition, resumed, position_of_one(partition, self._partitions, resumed))
            await self._calls.deliver_until_handled(resync, asyncio.Event())
        if self._handled[partition] == handled:
            # Otherwise this consumer has taken the partition since, and has handled more.
            self._handled[partition] = LogPosition(page.generation, survived)
