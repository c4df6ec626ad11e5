"""The queues of retried and parked sessions of a subscription in one partition."""

from datetime import UTC, datetime, timedelta

import msgspec

from turnstream.ports import DueSessions, FailedEvent, Failure, ParkedEvents, ParkResult

PARKED = Failure(is_parked=True)


class ParkedEventLimits(msgspec.Struct, frozen=True):
    """The limits of the queues in one partition: events and bytes."""

    count: int = 10_000
    size: int = 64 * 1024 * 1024


class EventQueue(msgspec.Struct):
    """The events of a session by their sequences, in order; `newest` is the last that came, also if lost.

    `failure` is that of the first event, which is tried again at `due`.
    """

    since: datetime
    failure: Failure
    due: datetime | None
    newest: int = 0
    lost: int = 0
    events: dict[int, bytes] = msgspec.field(default_factory=dict[int, bytes])

    @property
    def head(self) -> int | None:
        """The sequence of the first event."""
        return next(iter(self.events), None)

    @property
    def size(self) -> int:
        """The bytes of all events."""
        return sum(map(len, self.events.values()))

    def described(self) -> ParkedEvents:
        """Return what the port says of it."""
        failure = self.failure
        return ParkedEvents(
            count=len(self.events),
            size=self.size,
            since=self.since,
            reason=failure.reason,
            attempts=failure.attempts,
            lost=self.lost,
            first=failure.first,
            doublings=failure.doublings,
            is_parked=failure.is_parked,
            next_try=self.due,
        )


class ParkedSessions:
    """The queues of a partition."""

    def __init__(self, limits: ParkedEventLimits) -> None:
        """Start without queues."""
        self.queues: dict[str, EventQueue] = {}
        self._limits = limits

    def park(self, event: FailedEvent, failure: Failure | None, *, lose: bool) -> ParkResult:
        """Queue an event, or count it as lost if that is allowed; a waiting event only joins an existing queue."""
        queue = self.queues.get(event.session_id)
        if queue is None and not event.attempts:
            return ParkResult.ABSENT
        if queue and event.sequence <= queue.newest:
            return ParkResult.KEPT
        fits = self._has_room_for(event)
        if not fits and not lose:
            return ParkResult.FULL
        if queue is None:
            given = msgspec.structs.replace(failure or PARKED, reason=event.reason, attempts=event.attempts)
            now = _now()
            queue = self.queues[event.session_id] = EventQueue(now, *_scheduled(given, now))
        queue.newest = event.sequence
        if fits:
            queue.events[event.sequence] = event.payload
            return ParkResult.KEPT
        queue.lost += 1
        return ParkResult.LOST

    def unpark(self, session_id: str, sequence: int, lost: int | None) -> int:
        """Drop the head of a queue if it has this sequence; one without any is forgotten. Return how many are left."""
        queue = self.queues.get(session_id)
        if queue is None:
            return 0
        if lost is not None and len(queue.events) <= 1 and queue.lost > lost:
            return 1
        if queue.head == sequence:
            del queue.events[sequence]
            queue.failure = Failure(is_parked=queue.failure.is_parked)
        if not queue.events:
            del self.queues[session_id]
        return len(queue.events)

    def postpone(self, session_id: str, failure: Failure) -> bool:
        """Note how the head of a queue failed, and the next attempt; False if there is no queue."""
        queue = self.queues.get(session_id)
        if queue is None:
            return False
        queue.failure, queue.due = _scheduled(failure, _now())
        return True

    def due(self, count: int) -> DueSessions:
        """Return the first sessions that are due."""
        now = _now()
        timed = sorted((queue.due, i) for i, queue in self.queues.items() if queue.due)[:count]
        sessions = {i: self.queues[i].described() for due, i in timed if due <= now}
        later = [(due - now).total_seconds() for due, _ in timed if due > now]
        return DueSessions(now, sessions, later[0] if later else None)

    def hasten(self, count: int) -> int:
        """Make the next sessions due that would be later."""
        now = _now()
        later = sorted((queue.due, i) for i, queue in self.queues.items() if queue.due and queue.due > now)[:count]
        for _, session_id in later:
            self.queues[session_id].due = now
        return len(later)

    def _has_room_for(self, event: FailedEvent) -> bool:
        count = sum(len(queue.events) for queue in self.queues.values())
        size = sum(queue.size for queue in self.queues.values())
        return count < self._limits.count and size + len(event.payload) <= self._limits.size


def _now() -> datetime:
    """Return the time to the millisecond, as servers note it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _scheduled(failure: Failure, now: datetime) -> tuple[Failure, datetime | None]:
    """Return a failure with its time, and when the next try is due."""
    due = None if failure.retry_in is None else now + timedelta(milliseconds=round(failure.retry_in * 1000))
    return msgspec.structs.replace(failure, first=failure.first or now), due
