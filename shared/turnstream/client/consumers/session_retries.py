"""Retries the sessions of which an event failed, next to the others, and parks them in the end (design §6).

The life of a session in a partition of a durable subscription:

    in the stream ──an event fails (`start`)──▸ retried ──its limits are reached──▸ parked
          ▴                                        │                                   │
          └────── all its events are handled ──────┴───────(an operator, or `parked_every`)

While a session is retried or parked, its events wait in a queue on the server, so that their order is kept: the reader
of the stream appends to the queue (`append`), and the retries handle its head. When each session is due is stored on
the server too; here are only the ids.

A session that is due gets a turn, which ends in one of four ways (`TurnResult`): the queue is empty and the session
leaves; there are more events; the head failed and is due again later; or the handler asked for a pause that does not
count as an attempt, and this partition's retries pause.
"""

import asyncio
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple

from msgspec.structs import replace

from turnstream.backoff import Backoff
from turnstream.client.consumers.handler_calls import HandlerCalls, HandlerFailure, wait
from turnstream.client.subscriptions.resync import HistoryGap, position_of_one, resync_for
from turnstream.codec.events import decode_event
from turnstream.domain.position import LogPosition
from turnstream.logging import get_logger
from turnstream.ports import (
    ConsumerStore,
    DueSessions,
    FailedEvent,
    Failure,
    ParkedEvents,
    ParkResult,
    SubscriptionState,
)

log = get_logger(__name__)

SESSIONS_AT_ONCE = 4
"""Sessions of a partition that are retried concurrently."""

HASTENED_PER_SUCCESS = 2
"""Sessions of a partition that are tried early after one succeeded: more than one, so that their number grows."""

EVENTS_PER_TURN = 50
"""Events of a session that are handled before other sessions get a turn."""

POLL_INTERVAL_S = 5.0
"""Seconds between two checks for sessions that are due, in case a notification was lost."""


class TurnResult(Enum):
    """How a session's turn ended."""

    EMPTY = auto()
    """All of its events were handled."""
    MORE = auto()
    """It has more events, and none failed."""
    FAILED = auto()
    """The first event failed."""
    DEFERRED = auto()
    """The first event failed for a reason that does not count."""


class ConsumedPartition(NamedTuple):
    """A partition of a subscription that this consumer owns."""

    name: str
    partitions: int
    state: SubscriptionState
    subscriptions: ConsumerStore
    calls: HandlerCalls


class SessionRetries:
    """The sessions of a partition that are retried or parked; only `run` handles their events."""

    def __init__(self, partition: ConsumedPartition, stopped: asyncio.Event) -> None:
        """Start with no sessions; `load` reads them. `run` ends when `stopped` is set."""
        self.checkpoint = partition.state.mark or LogPosition("", 0)
        """The last checkpoint of the partition."""
        self._name, self._number = partition.name, partition.state.partition
        self._partition = partition
        self._state = partition.state
        self._subscriptions = partition.subscriptions
        self._calls = partition.calls
        self._policy = partition.calls.retries
        self._stopped = stopped
        self._wakeup = asyncio.Event()
        self._hastens = False
        self._backoff = Backoff(longest=POLL_INTERVAL_S)
        # The value identifies one stay of a session: it is another object if the session left and failed again.
        self._sessions: dict[str, object] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def wake(self) -> None:
        """Check whether there is something to do."""
        self._wakeup.set()

    def hasten(self) -> None:
        """Try some sessions before they are due; each success hastens some more."""
        self._hastens = True
        self.wake()

    async def load(self) -> None:
        """Read which sessions are retried or parked."""
        self._sessions = {i: object() for i in await self._subscriptions.parked(self._name, self._number)}

    async def start(self, event: FailedEvent, record: Failure) -> bool:
        """Retry a session, from this failed event on; return False if there is no room and the event is not parked."""
        # An operator's request from before this failure is not meant for this event.
        await self._subscriptions.withdraw(self._name, self._number, event.session_id)
        if await self._park(event, record) is ParkResult.FULL:
            return False
        self._sessions[event.session_id] = object()
        self.wake()
        return True

    async def append(self, event: FailedEvent) -> bool:
        """Append an event to the queue of its session; return False if the session has left since."""
        stay = self._sessions.get(event.session_id)
        if await self._park(event, None) is not ParkResult.ABSENT:
            return True
        self._forget(event.session_id, stay)
        return False

    async def run(self) -> None:
        """Try sessions when they are due, and carry out the requests of operators, until stopped.

        Raises:
            Fenced: the partition has another owner.
            Unavailable: the server does not answer.

        """
        while not self._stopped.is_set():
            self._wakeup.clear()
            if not self._sessions:
                self._hastens = False
                await wait(self._wakeup, None)
            elif not await self._process_requests():
                await wait(self._wakeup, await self._try_due())

    async def _park(self, event: FailedEvent, record: Failure | None) -> ParkResult:
        lose = record is None or record.is_parked
        result = await self._subscriptions.park(self._name, self._state, event, record, lose=lose)
        if result is ParkResult.LOST:
            fields = {"session_id": event.session_id, "sequence": event.sequence, "partition": self._number}
            log.error("event of a parked session lost, too many are waiting", **fields)
        return result

    async def _try_due(self) -> float:
        """Give each session that is due a turn; return the seconds until the next check."""
        if self._hastens:
            self._hastens = False
            await self._subscriptions.hasten(self._name, self._state, HASTENED_PER_SUCCESS)
        # While the handler defers, one session is enough to find out whether it still does.
        count = 1 if self._backoff.failing else SESSIONS_AT_ONCE
        due = await self._subscriptions.due(self._name, self._number, count)
        results = await self._take_turns(due)
        if TurnResult.DEFERRED in results:
            return self._backoff.failed()
        self._backoff.succeeded()
        if results or self._hastens:
            return 0.0
        return POLL_INTERVAL_S if due.next_in is None else min(POLL_INTERVAL_S, due.next_in)

    async def _take_turns(self, due: DueSessions) -> list[TurnResult]:
        # If one fails, the others still finish their events.
        turns = [self._take_turn(session_id, known, due.now) for session_id, known in due.sessions.items()]
        results = await asyncio.gather(*turns, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]

    async def _take_turn(self, session_id: str, known: ParkedEvents, now: datetime) -> TurnResult:
        """Handle a session's events, from the head of its queue on.

        Args:
            session_id: the session.
            known: the stored state of the session and of the event at its head.
            now: the server's time.

        """
        stay = self._sessions.get(session_id)
        for _ in range(EVENTS_PER_TURN):
            if self._stopped.is_set():
                break
            # Two, to know whether the first is the last one: after that the lost events are reported.
            queue = await self._subscriptions.queue(self._name, self._number, session_id, 2)
            lost = await self._lost(session_id) if len(queue) < 2 else 0  # noqa: PLR2004 - the last one
            failed = await self._attempt(session_id, queue[0][1] if queue else None, lost)
            if failed:
                return await self._record_failure(session_id, known, now, failed)
            sequence = queue[0][0] if queue else 0
            left = await self._subscriptions.unpark(self._name, self._state, session_id, sequence, lost)
            if known.attempts and self._policy.parked_every is not None:
                # An event that had failed was handled: the cause may be gone for other sessions too.
                self._hastens = True
            if not left:
                return self._leave(session_id, stay)
            # Of the next event nothing is known yet.
            known = ParkedEvents(0, 0, known.since, "", 0, 0, is_parked=known.is_parked)
        return TurnResult.MORE

    async def _lost(self, session_id: str) -> int:
        found = await self._subscriptions.parked_session(self._name, self._number, session_id)
        return found.lost if found else 0

    async def _attempt(self, session_id: str, payload: bytes | None, lost: int) -> HandlerFailure | None:
        """Call the handler with an event, then with a `ResyncRequired` if events after it were lost."""
        event = decode_event(payload) if payload else None
        failed = await self._calls.attempt(event, retry=True) if event else None
        if failed or not lost:
            return failed
        checkpoint = self.checkpoint
        gap = HistoryGap("parking", lost, checkpoint)
        position = position_of_one(self._number, self._partition.partitions, checkpoint)
        return await self._calls.attempt(resync_for(gap, self._number, checkpoint, position, session_id), retry=True)

    async def _record_failure(
        self, session_id: str, known: ParkedEvents, now: datetime, failed: HandlerFailure
    ) -> TurnResult:
        """Store when the head of a session's queue is due again, or that the session is parked."""
        if not failed.counts:
            record = Failure(
                failed.reason, known.attempts, known.first, known.doublings, known.is_parked, POLL_INTERVAL_S
            )
            await self._subscriptions.postpone(self._name, self._state, session_id, record)
            return TurnResult.DEFERRED
        attempts, first = known.attempts + 1, known.first if known.attempts else None
        doublings = max(known.doublings, self._calls.outages.doublings)
        is_exhausted = self._policy.is_exhausted(attempts, now - (first or now), doublings)
        record = self._calls.failure_record(failed, attempts, doublings, is_parked=is_exhausted or known.is_parked)
        if record.is_parked and not known.is_parked:
            self._calls.record_parked(record, failed, session_id, self._number)
        await self._subscriptions.postpone(self._name, self._state, session_id, replace(record, first=first))
        return TurnResult.FAILED

    async def _process_requests(self) -> bool:
        """Carry out the requests of operators; return whether some need another turn."""
        more = False
        for session_id, what in (await self._subscriptions.requests(self._name, self._number)).items():
            result = TurnResult.EMPTY
            if session_id in self._sessions:
                result = await (self._redrive(session_id) if what == "redrive" else self._discard(session_id))
            if result in (TurnResult.EMPTY, TurnResult.FAILED):
                await self._subscriptions.withdraw(self._name, self._number, session_id)
            more = more or result is TurnResult.MORE
        return more

    async def _redrive(self, session_id: str) -> TurnResult:
        """Try a session now, as if none of its events had failed before."""
        await self._subscriptions.postpone(self._name, self._state, session_id, Failure(retry_in=0.0))
        known = await self._subscriptions.parked_session(self._name, self._number, session_id)
        return await self._take_turn(session_id, known, known.first or known.since) if known else TurnResult.EMPTY

    async def _discard(self, session_id: str) -> TurnResult:
        stay = self._sessions.get(session_id)
        left = 1
        while left:
            queue = await self._subscriptions.queue(self._name, self._number, session_id, 1)
            left = await self._subscriptions.unpark(
                self._name, self._state, session_id, queue[0][0] if queue else 0, None
            )
        return self._leave(session_id, stay)

    def _leave(self, session_id: str, stay: object) -> TurnResult:
        self._forget(session_id, stay)
        log.info("session is no longer retried", session_id=session_id, partition=self._number)
        return TurnResult.EMPTY

    def _forget(self, session_id: str, stay: object) -> None:
        """Forget a session that has left, unless it has failed again since."""
        if self._sessions.get(session_id) is stay:
            self._sessions.pop(session_id, None)
