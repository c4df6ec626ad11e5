"""What a member knows of the losses before it took a partition: it tells them by what it has handled itself."""

from collections.abc import Sequence

import pytest

from turnstream.adapters.memory import MemoryBackend
from turnstream.client.durable.consuming import Consumer, Consuming
from turnstream.client.durable.handling import Handling
from turnstream.client.listening.following import Break, Wanted
from turnstream.domain.position import Mark
from turnstream.ports import EventPage, SubscriptionState

HANDLED: Mark = ("before", 7)


async def ignore(_: object) -> None:
    """Handle nothing."""


async def nowhere(_: int) -> Mark:
    return ("now", 0)


def taken_back(handled: Mark | None, former: Sequence[tuple[str, int]]) -> Break | None:
    """Read a page of the generation `now` where another member has left a checkpoint already."""
    backend = MemoryBackend(1)
    places = {} if handled is None else {0: handled}
    handling = Handling(ignore, 1)
    consumer = Consumer(
        "billing", 1, Wanted((), None), backend.events, backend.subscriptions, handling, nowhere, places
    )
    page = EventPage("now", former, 1, 0, {}, 0, ())
    return Consuming(consumer, SubscriptionState(0, "token", ("now", 3)))._taken_back(page)


def test_what_a_failover_took_back_is_counted() -> None:
    assert taken_back(HANDLED, [("before", 5)]) == Break("failover", 2, HANDLED)


def test_a_flush_that_another_member_met_first_is_told() -> None:
    assert taken_back(HANDLED, []) == Break("reset", None, HANDLED)


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
    assert taken_back(handled, former) is None
