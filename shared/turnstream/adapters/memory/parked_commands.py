"""The parked commands of one partition, and the crashes of its owners (design §4)."""

from itertools import count

import msgspec
from msgspec.structs import replace

from turnstream.codec.records import encode_parked_session
from turnstream.ports import ParkedCommand, ParkingChanges


class ParkedCommandQueues(msgspec.Struct):
    """The registry of parked sessions, as JSON, and their queues, in order, by place."""

    sessions: dict[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    queues: dict[str, dict[str, ParkedCommand]] = msgspec.field(default_factory=dict[str, dict[str, ParkedCommand]])
    queue_ids: "count[int]" = msgspec.field(default_factory=lambda: count(1))

    def apply(self, changes: ParkingChanges) -> None:
        """Change the queues, then the registry."""
        for command in changes.queued:
            queue_id = str(next(self.queue_ids))
            self.queues.setdefault(command.session_id, {})[queue_id] = replace(command, queue_id=queue_id)
        for command in changes.taken:
            self.queues.get(command.session_id, {}).pop(command.queue_id, None)
        for session_id, session in changes.sessions.items():
            if session is None:
                self.sessions.pop(session_id, None)
                self.queues.pop(session_id, None)
            else:
                self.sessions[session_id] = encode_parked_session(session)


class OwnerDeaths(msgspec.Struct):
    """How many owners died without moving the cursor, and of which command that was tried alone."""

    released: str | None = None
    taken_at: str | None = None
    count: int = 0
    attempt_at: str | None = None
    attempted: str | None = None
    attempts: int = 0

    def take(self, cursor: str, token: str | None, earlier_token: str | None) -> int:
        """Count the previous owner if it died; return the number of owners that died at this cursor."""
        stuck = cursor in (self.taken_at, self.attempt_at)
        if not stuck:
            self.count = 0
        elif token and token not in (self.released, earlier_token):
            self.count += 1
            self.attempts += cursor == self.attempt_at
        self.taken_at = cursor
        return self.count

    def attempt(self, cursor: str, entry_id: str) -> int:
        """Note an attempt; return how many owners have died of this command so far."""
        if (cursor, entry_id) != (self.attempt_at, self.attempted):
            self.attempt_at, self.attempted, self.attempts = cursor, entry_id, 0
        return self.attempts
