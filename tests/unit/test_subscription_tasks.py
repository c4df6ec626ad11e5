"""Concurrent reads: when one fails, none of the others continues."""

import asyncio

import pytest

from turnstream import Unavailable
from turnstream.client.subscriptions.tasks import gather_all_or_cancel


async def _value(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def _fails() -> int:
    await asyncio.sleep(0)
    raise Unavailable("gone")


async def test_all_results_in_their_order() -> None:
    assert await gather_all_or_cancel(_value(number) for number in range(3)) == [0, 1, 2]
    assert await gather_all_or_cancel(()) == []


async def test_no_call_continues_after_one_has_failed() -> None:
    went_on: list[str] = []

    async def later() -> int:
        try:
            await asyncio.Event().wait()
            went_on.append("slept")
        finally:
            await asyncio.sleep(0)
            went_on.append("ended")
        return 0

    with pytest.raises(Unavailable, match="gone"):
        await gather_all_or_cancel([later(), _fails(), later()])
    assert went_on == ["ended", "ended"]


async def test_a_cancelled_call_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(gather_all_or_cancel([asyncio.sleep(60), asyncio.sleep(60)]))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert asyncio.all_tasks() == before
