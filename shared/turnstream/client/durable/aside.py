"""The sessions of which an event was not handled: tried again beside the others, and parked in the end (design §6)."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple

from msgspec.structs import replace

from turnstream.backoff import Backoff
from turnstream.client.durable.handling import Handling, Refusal, wait
from turnstream.client.durable.losses import resync_of
from turnstream.client.listening.following import Break
from turnstream.codec.events import decode_event
from turnstream.domain.position import Mark
from turnstream.ports import DueSessions, FailedEvent, Failure, ParkedEvents, SetAside, Subscriptions, SubscriptionState
from turnstream.telemetry import get_logger

log = get_logger(__name__)

TOGETHER = 4
"""Sessions of a partition that are tried again at the same time."""

HASTENED = 2
"""Sessions of a partition that are tried early where another was handled: more than one, so that their number grows."""

PIECE = 50
"""Events of a session that are handled in one go; then others have a turn."""

CHECK_EVERY = 5.0
"""Seconds between two looks at what is set aside, should no bell have been heard."""


class Turn(Enum):
    """How a session's turn ended."""

    EMPTY = auto()
    """All of its events were handled."""
    MORE = auto()
    """There are more, and nothing was wrong."""
    REFUSED = auto()
    """The first event was not handled."""
    HELD = auto()
    """It was not, for a reason that does not count."""


class Partition(NamedTuple):
    """A partition of a subscription in the hands of its owner; `place` is its last checkpoint."""

    name: str
    partitions: int
    state: SubscriptionState
    subscriptions: Subscriptions
    handling: Handling
    place: Callable[[], Mark]


class SessionsAside:
    """The sessions of a partition that are set aside: the events of each wait in a queue on the server, in order.

    Which is to be tried when is read from the server, some sessions at a time; here are their ids only. The reader of
    the stream adds events; `run` handles them, and is the only one that does.
    """

    def __init__(self, partition: Partition, stopped: asyncio.Event) -> None:
        """Know none yet; `load` reads them. `run` ends when `stopped` is set."""
        self._name, self._number = partition.name, partition.state.partition
        self._partition = partition
        self._state = partition.state
        self._subscriptions = partition.subscriptions
        self._handling = partition.handling
        self._retries = partition.handling.retries
        self._stopped = stopped
        self._rung = asyncio.Event()
        self._hastens = False
        self._backoff = Backoff(longest=CHECK_EVERY)
        # To each an object that tells whether it was set aside another time since.
        self._sessions: dict[str, object] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def ring(self) -> None:
        """Look whether there is something to do."""
        self._rung.set()

    def hasten(self) -> None:
        """Try some sessions now that would be tried later; each that is handled hastens some more."""
        self._hastens = True
        self.ring()

    async def load(self) -> None:
        """Read which sessions are set aside."""
        self._sessions = {i: object() for i in await self._subscriptions.parked(self._name, self._number)}

    async def begin(self, event: FailedEvent, failure: Failure) -> bool:
        """Set a session aside with the event that failed; False where there is no room for one that is not parked."""
        # A request that came when the session was not set aside is not meant for this event.
        await self._subscriptions.withdraw(self._name, self._number, event.session_id)
        if await self._park(event, failure) is SetAside.FULL:
            return False
        self._sessions[event.session_id] = object()
        self.ring()
        return True

    async def add(self, event: FailedEvent) -> bool:
        """Queue an event after those of its session that wait; False where there are none any more."""
        known = self._sessions.get(event.session_id)
        if await self._park(event, None) is not SetAside.ABSENT:
            return True
        self._forget(event.session_id, known)
        return False

    async def run(self) -> None:
        """Try sessions again when they are due, and do what operators asked for, until stopped.

        Raises:
            Fenced: the partition has another owner.
            Unavailable: the server does not answer.

        """
        while not self._stopped.is_set():
            self._rung.clear()
            if not self._sessions:
                self._hastens = False
                await wait(self._rung, None)
            elif not await self._carry_out_requests():
                await wait(self._rung, await self._try_due())

    async def _park(self, event: FailedEvent, failure: Failure | None) -> SetAside:
        lose = failure is None or failure.is_parked
        done = await self._subscriptions.park(self._name, self._state, event, failure, lose=lose)
        about = {"session_id": event.session_id, "sequence": event.sequence, "partition": self._number}
        if done is SetAside.LOST:
            log.error("event of a parked session lost, for too many wait", **about)
        return done

    async def _try_due(self) -> float:
        """Give sessions that are due a turn; return the seconds until there is something to do again."""
        if self._hastens:
            self._hastens = False
            await self._subscriptions.hasten(self._name, self._state, HASTENED)
        count = 1 if self._backoff.failing else TOGETHER
        due = await self._subscriptions.due(self._name, self._number, count)
        turns = await self._turns(due)
        if Turn.HELD in turns:
            return self._backoff.failed()
        self._backoff.succeeded()
        if turns or self._hastens:
            return 0.0
        return CHECK_EVERY if due.next_in is None else min(CHECK_EVERY, due.next_in)

    async def _turns(self, due: DueSessions) -> list[Turn]:
        # Where one fails, the others finish what they have in hand.
        turns = [self._turn(session_id, known, due.now) for session_id, known in due.sessions.items()]
        ends = await asyncio.gather(*turns, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return [end for end in ends if not isinstance(end, BaseException)]

    async def _turn(self, session_id: str, known: ParkedEvents, now: datetime) -> Turn:
        """Handle a session's events from the head of its queue on."""
        mark = self._sessions.get(session_id)
        for _ in range(PIECE):
            if self._stopped.is_set():
                break
            queue = await self._subscriptions.queue(self._name, self._number, session_id, 2)
            lost = await self._lost(session_id) if len(queue) < 2 else 0  # noqa: PLR2004 - the last one
            refusal = await self._attempt(session_id, queue[0][1] if queue else None, lost)
            if refusal:
                return await self._refused(session_id, known, now, refusal)
            sequence = queue[0][0] if queue else 0
            left = await self._subscriptions.unpark(self._name, self._state, session_id, sequence, lost)
            if known.attempts and self._retries.parked_every is not None:
                # What took this now may take others.
                self._hastens = True
            if not left:
                self._forget(session_id, mark)
                log.info("session is not set aside any more", session_id=session_id, partition=self._number)
                return Turn.EMPTY
            known = ParkedEvents(0, 0, known.since, "", 0, 0, is_parked=known.is_parked)
        return Turn.MORE

    async def _lost(self, session_id: str) -> int:
        found = await self._subscriptions.parked_session(self._name, self._number, session_id)
        return found.lost if found else 0

    async def _attempt(self, session_id: str, payload: bytes | None, lost: int) -> Refusal | None:
        """Have an event handled, and what was lost after it told."""
        event = decode_event(payload) if payload else None
        refusal = await self._handling.attempt(event, retry=True) if event else None
        if refusal or not lost:
            return refusal
        mark = self._partition.place()
        gone = Break("parking", lost, mark)
        resync = resync_of(gone, self._number, self._partition.partitions, mark, session_id)
        return await self._handling.attempt(resync, retry=True)

    async def _refused(self, session_id: str, known: ParkedEvents, now: datetime, refusal: Refusal) -> Turn:
        """Note when the head of a session's queue is to be tried again, or that its session is parked."""
        if not refusal.counts:
            held = Failure(refusal.reason, known.attempts, known.first, known.doublings, known.is_parked, CHECK_EVERY)
            await self._subscriptions.postpone(self._name, self._state, session_id, held)
            return Turn.HELD
        attempts, first = known.attempts + 1, known.first if known.attempts else None
        doublings = max(known.doublings, self._handling.fortune.doublings)
        is_over = self._retries.are_over(attempts, now - (first or now), doublings)
        failure = self._handling.failure(refusal, attempts, doublings, is_parked=is_over or known.is_parked)
        if failure.is_parked and not known.is_parked:
            self._handling.tell_of_parking(failure, refusal, session_id, self._number)
        await self._subscriptions.postpone(self._name, self._state, session_id, replace(failure, first=first))
        return Turn.REFUSED

    async def _carry_out_requests(self) -> bool:
        """Do what operators asked for; tell whether there is more of it to do."""
        more = False
        for session_id, what in (await self._subscriptions.requests(self._name, self._number)).items():
            turn = Turn.EMPTY
            if session_id in self._sessions:
                turn = await (self._redrive(session_id) if what == "redrive" else self._discard(session_id))
            if turn in (Turn.EMPTY, Turn.REFUSED):
                await self._subscriptions.withdraw(self._name, self._number, session_id)
            more = more or turn is Turn.MORE
        return more

    async def _redrive(self, session_id: str) -> Turn:
        """Try a session at once, as if none of its events had failed before."""
        await self._subscriptions.postpone(self._name, self._state, session_id, Failure(retry_in=0.0))
        known = await self._subscriptions.parked_session(self._name, self._number, session_id)
        return await self._turn(session_id, known, known.first or known.since) if known else Turn.EMPTY

    async def _discard(self, session_id: str) -> Turn:
        mark = self._sessions.get(session_id)
        left = 1
        while left:
            queue = await self._subscriptions.queue(self._name, self._number, session_id, 1)
            left = await self._subscriptions.unpark(
                self._name, self._state, session_id, queue[0][0] if queue else 0, None
            )
        self._forget(session_id, mark)
        log.info("session is not set aside any more", session_id=session_id, partition=self._number)
        return Turn.EMPTY

    def _forget(self, session_id: str, mark: object) -> None:
        """Forget a session that left, unless it was set aside again meanwhile."""
        if self._sessions.get(session_id) is mark:
            self._sessions.pop(session_id, None)
