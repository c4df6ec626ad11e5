"""Several reads at the same time: when one fails, none of the others goes on."""

import asyncio

import pytest

from turnstream import Unavailable
from turnstream.client.listening.together import together


async def _value(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def _fails() -> int:
    await asyncio.sleep(0)
    raise Unavailable("gone")


async def test_all_results_in_their_order() -> None:
    assert await together(_value(number) for number in range(3)) == [0, 1, 2]
    assert await together(()) == []


async def test_nothing_goes_on_when_one_has_failed() -> None:
    went_on: list[str] = []

    async def later() -> int:
        try:
            await asyncio.sleep(0.05)
            went_on.append("slept")
        finally:
            await asyncio.sleep(0)
            went_on.append("ended")
        return 0

    with pytest.raises(Unavailable, match="gone"):
        await together([later(), _fails(), later()])
    assert went_on == ["ended", "ended"]


async def test_whoever_is_cancelled_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(together([asyncio.sleep(60), asyncio.sleep(60)]))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert asyncio.all_tasks() == before
