"""Subscribers that record every event and every reported loss, whatever faults occur."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from random import Random
from typing import Any, Literal

import msgspec
from redis.exceptions import RedisError
from tests.chaos.history import Gone, History, Listening, Seen

from turnstream import Position, ResyncRequired, Turnstream, Unavailable
from turnstream.client.consumers import partition_consumer
from turnstream.client.subscriptions import feed
from turnstream.client.subscriptions.start import Start
from turnstream.client.subscriptions.subscription import EventSubscription
from turnstream.domain.events import Event
from turnstream.events import MessageAdded, SessionConfigUpdated, SessionDeleted, SessionUpdated

PAUSE = 0.05
"""Seconds between two attempts to subscribe."""
RESTS = (0.3, 0.3, 0.3, 3.0)
"""Seconds for which a subscriber that pauses does not look, at most: one of these."""
SPELL = 2_000
"""Events between two pauses, or two deaths, at most."""

LOOK_EVERY = 0.5
"""Seconds between two polls of quiet streams: shorter than in production, so that runs end sooner."""

Heads = Callable[[], Awaitable[dict[int, int]]]
"""Reads the sequence of every partition."""


@contextmanager
def looking_often() -> Generator[None]:
    """Have the subscribers of this process look at quiet streams often, for the time of the block."""
    usual = feed.HEAD_CHECK_INTERVAL_S, partition_consumer.POLL_INTERVAL_S
    feed.HEAD_CHECK_INTERVAL_S = partition_consumer.POLL_INTERVAL_S = LOOK_EVERY
    try:
        yield
    finally:
        feed.HEAD_CHECK_INTERVAL_S, partition_consumer.POLL_INTERVAL_S = usual


class Kind(msgspec.Struct, frozen=True):
    """The events of a subscriber, and its behaviour: it pauses, or ends and resumes at its stored position."""

    name: str
    types: tuple[type[Event], ...] = ()
    session_id: str | None = None
    habit: Literal["steady", "pausing", "restarting"] = "steady"


KINDS = (
    Kind("everything"),
    Kind("everything, pausing", habit="pausing"),
    Kind("messages", (MessageAdded,)),
    Kind("messages, restarting", (MessageAdded,), habit="restarting"),
    Kind("a rare type", (SessionDeleted,)),
    Kind("some types", (SessionDeleted, SessionUpdated, SessionConfigUpdated)),
    Kind("a session", session_id="s0"),
    Kind("everything, restarting", habit="restarting"),
)
"""The subscribers of a run."""


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
        self.rests = True
        """Whether it may; in the end all are to catch up."""

    async def run(self) -> None:
        """Listen; try again if no server answers at first."""
        while True:
            try:
                await self._life()
            except (Unavailable, RedisError):
                await asyncio.sleep(PAUSE)

    async def _life(self) -> None:
        kind = self._kind
        async with self._ts.subscribe(*kind.types, session_id=kind.session_id, start=self._start) as events:
            if self._listening is None:
                # Read separately after the subscription is open: every event after these heads must be received.
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
                # Events that it has not taken are lost with it; only the text of the position remains.
                source = event if isinstance(event, ResyncRequired) else event.meta
                self._start = Position.parse(str(source.position))
                return
            if left == 0 and self._kind.habit == "pausing" and self.rests:
                await asyncio.sleep(self._chance.uniform(0, self._chance.choice(RESTS)))
                left = self._chance.randint(1, SPELL)


def _noted(event: Event | ResyncRequired) -> Seen | Gone:
    if isinstance(event, ResyncRequired):
        return noted_loss(event)
    assert event.meta is not None
    return Seen(event.meta.partition, event.meta.sequence, event.meta.event_id)


def noted_loss(resync: ResyncRequired) -> Gone:
    """Return the record of a reported loss."""
    generation, seen = resync.seen
    return Gone(resync.partition, resync.reason, resync.lost, seen, resync.resumed.sequence, generation)
