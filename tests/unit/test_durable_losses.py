"""What a member knows of the losses before it took a partition: it tells them by what it has handled itself."""

from collections.abc import Container, Sequence
from datetime import datetime

import pytest

from turnstream import ResyncRequired, Retries
from turnstream.client.durable.handling import Handling
from turnstream.client.durable.losses import TOGETHER, Losses, taken_back
from turnstream.client.listening.following import Break
from turnstream.domain.position import Mark
from turnstream.ports import EventPage

HANDLED: Mark = ("before", 7)


def page_of(former: Sequence[tuple[str, int]], generation: str = "now", head: int = 0) -> EventPage:
    return EventPage(generation, tuple(former), 1, head, {}, 0, ())


def test_what_a_failover_took_back_is_counted() -> None:
    assert taken_back(HANDLED, page_of([("before", 5)])) == Break("failover", 2, HANDLED)


def test_a_flush_that_another_member_met_first_is_told() -> None:
    assert taken_back(HANDLED, page_of([])) == Break("reset", None, HANDLED)


@pytest.mark.parametrize(
    ("handled", "former"),
    [
        pytest.param(HANDLED, [("before", 7)], id="all of it survived"),
        pytest.param(("now", 9), [], id="an operator has sent it back"),
        pytest.param(None, [], id="it has handled nothing here"),
        pytest.param(("", 0), [], id="there was no history yet"),
    ],
)
def test_where_nothing_is_lost_nothing_is_told(handled: Mark | None, former: Sequence[tuple[str, int]]) -> None:
    assert taken_back(handled, page_of(former)) is None


class Log:
    """An event log of which only how things stand is read."""

    def __init__(self, page: EventPage) -> None:
        self.page = page
        self.asked: list[int] = []

    async def read(self, partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        assert (after, count, session_id) == (0, 0, None)
        self.asked.append(partition)
        return self.page

    async def written_before(self, partition: int, moment: datetime) -> int:
        raise NotImplementedError


async def told(log: Log, places: dict[int, Mark], *, held: Container[int] = (), looks: int = 1) -> list[ResyncRequired]:
    """Look, and return what the handler was told."""
    found: list[ResyncRequired] = []

    async def handle(resync: ResyncRequired) -> None:
        found.append(resync)

    losses = Losses(1 + max(places), places, log, Handling(handle, Retries(attempts=1)), lambda: held)
    for _ in range(looks):
        await losses.look()
    return found


async def test_what_was_lost_where_others_are_now_is_told_once() -> None:
    places: dict[int, Mark] = {0: HANDLED, 2: ("before", 5)}
    (resync,) = await told(Log(page_of([("before", 5)])), places, looks=3)
    assert (resync.partition, resync.reason, resync.lost, resync.seen) == (0, "failover", 2, HANDLED)
    assert places == {0: ("now", 5), 2: ("now", 5)}


async def test_a_flush_is_told_once_also_before_anybody_begins_anew() -> None:
    places: dict[int, Mark] = {0: HANDLED}
    log = Log(page_of([], generation=""))
    (resync,) = await told(log, places, looks=2)
    log.page = page_of([], head=3)
    assert (resync.reason, resync.lost) == ("reset", None)
    assert await told(log, places, looks=2) == []


async def test_what_is_its_own_is_told_by_who_reads_it() -> None:
    assert await told(Log(page_of([])), {0: HANDLED}, held={0}) == []


async def test_of_many_partitions_some_are_looked_at_each_time() -> None:
    log = Log(page_of([("before", 7)]))
    places = dict.fromkeys(range(2 * TOGETHER + 3), HANDLED)
    await told(log, places, looks=3)
    assert set(log.asked) == set(places)
    assert len(log.asked) == 3 * TOGETHER
