"""Subscribers that write down every event they see, and every loss they are told of, through all that goes wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Literal

import msgspec
from redis.exceptions import RedisError
from tests.chaos.history import Gone, History, Listening, Seen

from turnstream import Position, ResyncRequired, Turnstream, Unavailable
from turnstream.client.listening.subscription import EventSubscription, Start
from turnstream.domain.events import Event

PAUSE = 0.05
"""Seconds between two attempts to subscribe."""
REST = 0.3
"""Seconds for which a subscriber that pauses does not look, at most."""
SPELL = 2_000
"""Events between two rests, or two deaths, at most."""

Heads = Callable[[], Awaitable[dict[int, int]]]
"""Reads the sequence of every partition."""


class Kind(msgspec.Struct, frozen=True):
    """What a subscriber listens to, and what it does meanwhile: rest, or end and go on from what it has stored."""

    name: str
    types: tuple[type[Event], ...] = ()
    session_id: str | None = None
    habit: Literal["steady", "pausing", "restarting"] = "steady"


class Subscriber:
    """Listens until it is cancelled."""

    def __init__(self, kind: Kind, ts: Turnstream, history: History, heads: Heads, chance: Random) -> None:
        self._kind = kind
        self._ts = ts
        self._history = history
        self._heads = heads
        self._chance = chance
        self._listening: Listening | None = None
        self._start: Start = "now"

    async def run(self) -> None:
        """Listen; where nobody answers at the start, try again."""
        while True:
            try:
                await self._life()
            except (Unavailable, RedisError):
                await asyncio.sleep(PAUSE)

    async def _life(self) -> None:
        kind = self._kind
        async with self._ts.subscribe(*kind.types, session_id=kind.session_id, start=self._start) as events:
            if self._listening is None:
                # Read past the subscription, when it is open: whatever comes behind these heads must be seen.
                types = frozenset(event.type for event in kind.types)
                self._listening = Listening(kind.name, await self._heads(), types, kind.session_id)
                self._history.listenings.append(self._listening)
            try:
                await self._listen(events, self._listening)
            except Unavailable as error:
                self._listening.failed = repr(error)
                raise

    async def _listen(self, events: EventSubscription[Any], listening: Listening) -> None:
        left = self._chance.randint(1, SPELL)
        async for event in events:
            listening.seen.append(_noted(event))
            left -= 1
            if left == 0 and self._kind.habit == "restarting":
                # What it did not come to is lost with it; all that is left is this text.
                told = event if isinstance(event, ResyncRequired) else event.meta
                self._start = Position.parse(str(told.position))
                return
            if left == 0 and self._kind.habit == "pausing":
                await asyncio.sleep(self._chance.uniform(0, REST))
                left = self._chance.randint(1, SPELL)


def _noted(event: Event | ResyncRequired) -> Seen | Gone:
    if isinstance(event, ResyncRequired):
        return Gone(event.partition, event.reason, event.lost, event.seen[1], event.resumed[1])
    assert event.meta is not None
    return Seen(event.meta.partition, event.meta.sequence, event.meta.event_id)


def have_caught_up(history: History, heads: dict[int, int]) -> bool:
    """Tell whether the subscribers of all events have seen everything up to these heads."""
    of_all = [one for one in history.listenings if not (one.types or one.session_id)]
    return all(_latest(listening, number) >= head for listening in of_all for number, head in heads.items())


def have_seen_all(history: History) -> bool:
    """Tell whether every subscriber has seen its last event of every partition, as these ended."""
    for listening in history.listenings:
        for end in history.partitions:
            last = next((event.meta for event in reversed(end.events) if listening.is_for(event)), None)
            if last is not None and _latest(listening, end.number) < last.sequence:
                return False
    return True


def _latest(listening: Listening, partition: int) -> int:
    seen = (one.sequence for one in reversed(listening.seen) if one.partition == partition)
    return max(next(seen, 0), listening.heads.get(partition, 0))
