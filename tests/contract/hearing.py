"""The events that subscribers receive."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar, cast

import msgspec
from tests.waiting import SOON

from turnstream import ResyncRequired
from turnstream.events import Event

Some = TypeVar("Some")
SomeEvent = TypeVar("SomeEvent", bound=Event)


async def take(events: AsyncIterator[Some | ResyncRequired], count: int) -> list[Some]:
    """Return the next events, of which none may be lost."""
    async with asyncio.timeout(SOON):
        found = [await anext(events) for _ in range(count)]
    assert not [event for event in found if isinstance(event, ResyncRequired)]
    return cast("list[Some]", found)


async def take_one(events: AsyncIterator[Some | ResyncRequired]) -> Some:
    """Return the next event."""
    (event,) = await take(events, 1)
    return event


async def take_resync(events: AsyncIterator[object]) -> ResyncRequired:
    """Return what says that history is gone, which must be next."""
    async with asyncio.timeout(SOON):
        event = await anext(events)
    assert isinstance(event, ResyncRequired)
    return event


def unplaced(event: SomeEvent) -> SomeEvent:
    """Return an event as it is stored, without its reader's position."""
    return msgspec.structs.replace(event, meta=event.meta and msgspec.structs.replace(event.meta, position=None))
