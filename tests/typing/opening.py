"""The three ways to open a client, awaited and entered. Nothing here is run."""

from typing import assert_type

from turnstream import Turnstream


async def entered() -> None:
    async with Turnstream.connect("redis://localhost:6379") as ts:
        assert_type(ts, Turnstream)
    async with Turnstream.embedded("data") as ts:
        assert_type(ts, Turnstream)
    async with Turnstream.in_memory() as ts:
        assert_type(ts, Turnstream)


async def awaited() -> None:
    assert_type(await Turnstream.connect(), Turnstream)
    assert_type(await Turnstream.embedded(), Turnstream)
    assert_type(await Turnstream.in_memory(), Turnstream)
