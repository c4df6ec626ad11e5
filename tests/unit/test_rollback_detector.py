"""A consumer detects rollbacks by the positions up to which it has handled events."""

from collections.abc import Container, Sequence
from datetime import datetime

import pytest

from turnstream import ResyncRequired, RetryPolicy
from turnstream.client.consumers.handler_calls import HandlerCalls
from turnstream.client.consumers.rollback_detector import PARTITIONS_PER_CHECK, RollbackDetector, detect_rollback
from turnstream.client.subscriptions.resync import HistoryGap
from turnstream.domain.position import LogPosition
from turnstream.ports import EventPage

HANDLED: LogPosition = LogPosition("before", 7)


def page_of(former: Sequence[tuple[str, int]], generation: str = "now", head: int = 0) -> EventPage:
    return EventPage(generation, tuple(former), 1, head, {}, 0, ())


def test_events_rolled_back_by_a_failover_are_counted() -> None:
    assert detect_rollback(HANDLED, page_of([("before", 5)])) == HistoryGap("failover", 2, HANDLED)


def test_a_flush_that_another_consumer_noticed_first_is_reported() -> None:
    assert detect_rollback(HANDLED, page_of([])) == HistoryGap("reset", None, HANDLED)


@pytest.mark.parametrize(
    ("handled", "former"),
    [
        pytest.param(HANDLED, [("before", 7)], id="all of it survived"),
        pytest.param(LogPosition("now", 9), [], id="an operator has sent it back"),
        pytest.param(None, [], id="it has handled nothing here"),
        pytest.param(LogPosition("", 0), [], id="there was no history yet"),
    ],
)
def test_no_gap_is_reported_if_nothing_is_lost(handled: LogPosition | None, former: Sequence[tuple[str, int]]) -> None:
    assert detect_rollback(handled, page_of(former)) is None


class Log:
    """An event log of which only heads are read."""

    def __init__(self, page: EventPage) -> None:
        self.page = page
        self.asked: list[int] = []

    async def read(self, partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        assert (after, count, session_id) == (0, 0, None)
        self.asked.append(partition)
        return self.page

    async def written_before(self, partition: int, moment: datetime) -> int:
        raise NotImplementedError


async def notices(
    log: Log, handled: dict[int, LogPosition], *, owned: Container[int] = (), checks: int = 1
) -> list[ResyncRequired]:
    """Run checks, and return the notices that the handler received."""
    found: list[ResyncRequired] = []

    async def handle(resync: ResyncRequired) -> None:
        found.append(resync)

    rollbacks = RollbackDetector(1 + max(handled), handled, log, HandlerCalls(handle, RetryPolicy(attempts=1)))
    for _ in range(checks):
        await rollbacks.check(owned)
    return found


async def test_a_loss_in_a_partition_of_another_consumer_is_reported_once() -> None:
    handled: dict[int, LogPosition] = {0: HANDLED, 2: LogPosition("before", 5)}
    (resync,) = await notices(Log(page_of([("before", 5)])), handled, checks=3)
    assert (resync.partition, resync.reason, resync.lost, resync.seen) == (0, "failover", 2, HANDLED)
    assert handled == {0: ("now", 5), 2: ("now", 5)}


async def test_a_flush_is_reported_once_even_before_a_new_history_begins() -> None:
    handled: dict[int, LogPosition] = {0: HANDLED}
    log = Log(page_of([], generation=""))
    (resync,) = await notices(log, handled, checks=2)
    log.page = page_of([], head=3)
    assert (resync.reason, resync.lost) == ("reset", None)
    assert await notices(log, handled, checks=2) == []


async def test_owned_partitions_are_not_checked() -> None:
    assert await notices(Log(page_of([])), {0: HANDLED}, owned={0}) == []


async def test_each_check_compares_some_of_many_partitions() -> None:
    log = Log(page_of([("before", 7)]))
    handled = dict.fromkeys(range(2 * PARTITIONS_PER_CHECK + 3), HANDLED)
    await notices(log, handled, checks=3)
    assert set(log.asked) == set(handled)
    assert len(log.asked) == 3 * PARTITIONS_PER_CHECK
