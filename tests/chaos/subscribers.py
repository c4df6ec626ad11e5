"""Subscribers that write down every event they see; told of a loss, they subscribe again, as a new life."""

import asyncio
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError
from tests.chaos.history import History, Listening, Seen

from turnstream import ResyncRequired, Turnstream, Unavailable
from turnstream.domain.events import Event

PAUSE = 0.05
"""Seconds between two attempts to subscribe."""

Heads = Callable[[], Awaitable[dict[int, int]]]
"""Reads the sequence of every partition."""


class Subscriber:
    """Listens to all events, or to those of one class."""

    def __init__(self, name: str, ts: Turnstream, history: History, heads: Heads, only: type[Event] | None) -> None:
        self._name = name
        self._ts = ts
        self._history = history
        self._heads = heads
        self._only = only

    async def run(self) -> None:
        """Listen until cancelled, life after life."""
        while True:
            try:
                await self._listen()
            except (Unavailable, RedisError):
                await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        types = () if self._only is None else (self._only,)
        async with self._ts.subscribe(*types) as events:
            # Read past the subscription, when it is open: whatever comes behind these heads must be seen.
            listening = Listening(self._name, await self._heads(), self._only.type if self._only else None)
            self._history.listenings.append(listening)
            try:
                async for event in events:
                    if isinstance(event, ResyncRequired):
                        listening.lost = f"history is gone: {event.reason}"
                        return
                    if event.meta:
                        seen = Seen(event.meta.partition, event.meta.sequence, event.meta.event_id)
                        listening.seen.append(seen)
            except Unavailable as error:
                listening.lost = str(error)
                raise


def have_caught_up(history: History, heads: dict[int, int]) -> bool:
    """Tell whether the living subscribers of all events have seen everything up to these heads."""
    living = [listening for listening in history.listenings if listening.lost is None]
    return all(_latest(listening, number) >= head for listening in living for number, head in heads.items())


def _latest(listening: Listening, partition: int) -> int:
    if listening.type is not None:
        return 1 << 62
    seen = (s.sequence for s in reversed(listening.seen) if s.partition == partition)
    return max(next(seen, 0), listening.heads.get(partition, 0))
