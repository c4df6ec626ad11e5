"""Nothing that a handler does to the task it runs in ends the consumer."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.waiting import wait_until

from turnstream import ResyncRequired, RetryPolicy, backoff
from turnstream.client.consumers.handler_calls import Handler, HandlerCalls, StoppedError
from turnstream.client.consumers.retry_policy import RETRIED_AT_ONCE, OutageDetector
from turnstream.domain.position import LogPosition, Position

EVENT = ResyncRequired(
    partition=0,
    reason="reset",
    lost=None,
    seen=LogPosition("g", 1),
    resumed=LogPosition("g", 2),
    position=Position((LogPosition("g", 2),)),
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
async def test_every_exception_of_a_handler_is_a_failure(handler: Handler) -> None:
    calls = 0

    async def counted(event: object) -> None:
        nonlocal calls
        calls += 1
        await handler(event)

    handling = HandlerCalls(counted, RetryPolicy())
    for _ in range(3):
        assert await asyncio.wait_for(handling.attempt(EVENT), 5)
    assert calls == 3


@pytest.mark.parametrize("swallows", [True, False])
async def test_a_handler_cannot_swallow_a_cancellation(swallows: bool) -> None:
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

    task = asyncio.create_task(HandlerCalls(stubborn, RetryPolicy()).attempt(EVENT))
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
async def test_a_gap_is_reported_until_it_is_handled_or_the_consumer_stops() -> None:
    calls, stopped = 0, asyncio.Event()

    async def fails(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls < 40:
            raise ConnectionError

    await HandlerCalls(fails, RetryPolicy(attempts=1)).deliver_until_handled(EVENT, stopped)
    assert calls == 40
    stopped.set()
    with pytest.raises(StoppedError):
        await HandlerCalls(fails, RetryPolicy(attempts=1)).deliver_until_handled(EVENT, stopped)


# ── when it is over ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_retries_end_with_the_first_limit_that_is_reached() -> None:
    day, hour = timedelta(days=1), timedelta(hours=1)
    assert [RetryPolicy(attempts=3).is_exhausted(n, 99 * day, 0) for n in (2, 3, 4)] == [False, True, True]
    by_time = RetryPolicy(attempts=None, seconds=3600.0)
    assert [by_time.is_exhausted(999, since, 0) for since in (hour - timedelta(seconds=1), hour)] == [False, True]
    both = RetryPolicy(attempts=3, seconds=3600.0)
    assert [both.is_exhausted(n, since, 0) for n, since in ((2, hour / 2), (3, hour / 2), (2, hour))] == [
        False,
        True,
        True,
    ]
    assert [both.is_exhausted(n, since, 2) for n, since in ((11, 3 * hour), (12, hour), (1, 4 * hour))] == [
        *(False, True, True),
    ]


def test_pauses_double_up_to_the_longest() -> None:
    retries = RetryPolicy(longest_pause=900.0, parked_every=3600.0)
    for attempts in range(1, 200):
        bound = min(900.0, backoff.FIRST * 2.0 ** (attempts - 1))
        assert bound / 2 <= retries.pause(attempts) <= bound
    # So long after the first failure it is tried ten times, as when it was tried in its place.
    assert 0.5 * backoff.LONGEST <= RetryPolicy().pause(10) <= backoff.LONGEST
    parked = retries.parked_pause()
    assert parked is not None
    assert 1800.0 <= parked <= 3600.0
    assert RetryPolicy().parked_pause() is None


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"attempts": 0}, "at least once"),
        ({"attempts": None}, "need a limit"),
        ({"seconds": 0.0}, "seconds is more than 0"),
        ({"longest_pause": float("inf")}, "longest_pause is more than 0 and finite"),
        ({"parked_every": float("nan")}, "parked_every is more than 0 and finite"),
    ],
)
def test_invalid_retry_policies(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetryPolicy(**numbers)


def test_attempts_double_with_each_parked_session_while_nothing_succeeds() -> None:
    fortune, retries, parked = OutageDetector(), RetryPolicy(attempts=2), list[int]()
    for _ in range(3):
        attempts = 1
        while not retries.is_exhausted(attempts, timedelta(), fortune.doublings):
            attempts += 1
        fortune.session_parked(fortune.doublings)
        parked.append(attempts)
    assert parked == [2, 4, 8]
    # One whose limits were doubled elsewhere, as by the owner before, counts in the same way.
    fortune.session_parked(7)
    assert fortune.doublings == 8
    fortune.succeeded()
    assert fortune.doublings == 0


def test_only_some_sessions_are_retried_at_once_while_nothing_succeeds() -> None:
    fortune, patience = OutageDetector(), list[int]()
    for _ in range(RETRIED_AT_ONCE + 4):
        patience.append(fortune.attempts_in_place)
        fortune.session_retried()
    assert patience == [1] * (RETRIED_AT_ONCE + 1) + [2, 4, 8]
    fortune.succeeded()
    assert fortune.attempts_in_place == 1
