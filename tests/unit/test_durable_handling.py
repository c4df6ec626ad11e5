"""What a subscriber's handler may do to the task that it runs in: nothing that ends the member's work."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.waiting import wait_until

from turnstream import ResyncRequired, backoff
from turnstream.client.durable.handling import GivenUpError, Handler, Handling
from turnstream.domain.position import Position

EVENT = ResyncRequired(
    partition=0, reason="reset", lost=None, seen=("g", 1), resumed=("g", 2), position=Position((("g", 2),))
)


class OddError(BaseException):
    """Not an `Exception`, as the errors that some libraries cancel with."""


async def fails_in_a_group(_: object) -> None:
    async def fails() -> None:
        raise ValueError

    async with asyncio.TaskGroup() as tasks:
        # While the group waits for its end: before Python 3.13 that leaves this task counted as cancelled.
        tasks.create_task(fails())


async def is_cancelled_by_another(_: object) -> None:
    await asyncio.wait_for(_cancelled(), 5)


def _cancelled() -> "asyncio.Future[None]":
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


async def is_odd(_: object) -> None:
    raise OddError


def is_no_coroutine(_: object) -> Any:  # noqa: ANN401 - wrong on purpose
    return None


@pytest.mark.parametrize("handler", [fails_in_a_group, is_cancelled_by_another, is_odd, is_no_coroutine])
async def test_whatever_a_handler_raises_the_event_comes_again_and_is_given_up(handler: Handler) -> None:
    calls = 0

    async def counted(event: object) -> None:
        nonlocal calls
        calls += 1
        await handler(event)

    with pytest.raises(GivenUpError):
        await asyncio.wait_for(Handling(counted, 3).handle(EVENT, asyncio.Event()), 5)
    assert calls == 3


@pytest.mark.parametrize("swallows", [True, False])
async def test_a_handler_cannot_take_a_cancellation_for_a_failure_of_its_own(swallows: bool) -> None:
    began = asyncio.Event()
    calls = 0

    async def stubborn(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            return
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not swallows:
                raise ConnectionError from None

    task = asyncio.create_task(Handling(stubborn, 3).handle(EVENT, asyncio.Event()))
    await began.wait()
    task.cancel()
    await wait_until(task.done)
    assert task.cancelled()
    assert calls == 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave next to no time between two attempts."""
    monkeypatch.setattr(backoff, "LONGEST", 0.001)


@pytest.mark.usefixtures("quick")
async def test_where_nothing_succeeds_one_is_given_up_and_not_one_in_every_partition() -> None:
    async def fails(_: object) -> None:
        raise ConnectionError

    handling, stopped = Handling(fails, 2), asyncio.Event()
    partitions = [asyncio.create_task(handling.handle(EVENT, stopped)) for _ in range(16)]
    await wait_until(lambda: sum(task.done() for task in partitions) >= 3)
    stopped.set()
    ends = await asyncio.gather(*partitions, return_exceptions=True)
    attempts = sorted(end.attempts for end in ends if isinstance(end, GivenUpError))
    assert attempts == [2 << number for number in range(len(attempts))]


@pytest.mark.usefixtures("quick")
async def test_what_was_tried_often_is_not_given_up_when_another_succeeds() -> None:
    calls: list[tuple[int, bool]] = []
    outage = True

    async def handler(event: ResyncRequired) -> None:
        failed_before = calls.count((1, True))
        calls.append((event.partition, not outage))
        if outage or (event.partition == 1 and not failed_before):
            raise ConnectionError

    handling, stopped = Handling(handler, 2), asyncio.Event()
    for _ in range(8):
        with pytest.raises(GivenUpError):
            await handling.handle(EVENT, stopped)
    other = asyncio.create_task(handling.handle(replace(EVENT, partition=1), stopped))
    await wait_until(lambda: calls.count((1, False)) > 2)
    outage = False
    await handling.handle(EVENT, stopped)
    await other
