"""The values of parking: the registry of parked sessions, their queues, and what a batch changes (design §4)."""

from collections.abc import Mapping, Sequence

import msgspec

from turnstream.ports.values import RawEntry, RecordedOutcome


class ParkedSession(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The registry entry of a parked session.

    `count` commands of together `size` bytes wait; `since_ms` is when the command was sent that parked it, in
    milliseconds since 1970; `error` says what keeps the first of them from being applied.
    """

    count: int
    size: int
    since_ms: int
    error: str


class ParkedCommand(msgspec.Struct, frozen=True, gc=False):
    """A command in the queue of its session; `queue_id` is its id there, empty as long as it is to be queued."""

    session_id: str
    entry: RawEntry
    queue_id: str = ""

    @property
    def size(self) -> int:
        """The bytes of the command: the names of its fields and their values."""
        return sum(len(name) + len(value) for name, value in self.entry.fields.items())


class ParkingChanges(msgspec.Struct, frozen=True, gc=False):
    """The changes of parked commands in a batch.

    `queued` go to the ends of their queues; `taken` leave the heads of their queues, and `outcomes` replace those that
    said `parked`. `sessions` are the changed entries of the registry; `None` unparks a session and ends its queue.
    """

    sessions: Mapping[str, ParkedSession | None]
    queued: Sequence[ParkedCommand] = ()
    taken: Sequence[ParkedCommand] = ()
    outcomes: Sequence[RecordedOutcome] = ()
