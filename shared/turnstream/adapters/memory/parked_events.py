"""The events that a subscription has set aside in one partition."""

from datetime import UTC, datetime

import msgspec

from turnstream.ports import FailedEvent, ParkedEvents


class ParkedEventLimits(msgspec.Struct, frozen=True):
    """How many events one subscription may set aside in one partition, and of how many bytes."""

    count: int = 10_000
    size: int = 64 * 1024 * 1024


class EventQueue(msgspec.Struct):
    """The events of a parked session by their sequences, in order; `newest` is the last that came, also if lost."""

    since: datetime
    reason: str
    attempts: int
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
        return ParkedEvents(len(self.events), self.size, self.since, self.reason, self.attempts, self.lost)


class ParkedSessions:
    """The queues of a partition."""

    def __init__(self, limits: ParkedEventLimits) -> None:
        """Start with none parked."""
        self.queues: dict[str, EventQueue] = {}
        self._limits = limits

    def park(self, event: FailedEvent) -> bool:
        """Queue an event, or count it as lost; False if it is."""
        fits = self._has_room_for(event)
        queue = self.queues.get(event.session_id)
        if queue is None:
            queue = EventQueue(datetime.now(UTC), event.reason, event.attempts)
            self.queues[event.session_id] = queue
        if event.sequence <= queue.newest:
            if event.sequence == queue.head:
                queue.reason, queue.attempts = event.reason, event.attempts
            return True
        queue.newest = event.sequence
        if fits:
            queue.events[event.sequence] = event.payload
        else:
            queue.lost += 1
        return fits

    def unpark(self, session_id: str, sequence: int) -> int:
        """Drop the head of a queue if it has this sequence; one without any is forgotten. Return how many are left."""
        queue = self.queues.get(session_id)
        if queue is None:
            return 0
        if queue.head == sequence:
            del queue.events[sequence]
        if not queue.events:
            del self.queues[session_id]
        return len(queue.events)

    def _has_room_for(self, event: FailedEvent) -> bool:
        count = sum(len(queue.events) for queue in self.queues.values())
        size = sum(queue.size for queue in self.queues.values())
        return count < self._limits.count and size + len(event.payload) <= self._limits.size
