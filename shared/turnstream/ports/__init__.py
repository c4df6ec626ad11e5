"""What the application asks of the outside: protocols, and the values that pass through them (design §8).

An adapter is a bundle of them, a `Backend`; `turnstream.adapters.memory` and `turnstream.adapters.redis` each make one.
"""

from turnstream.ports.batch import Batch
from turnstream.ports.events import AGE_PRECISION, EventLog, EventPage
from turnstream.ports.parked import ParkedCommand, ParkedSession, ParkingChanges
from turnstream.ports.protocols import (
    Backend,
    Channels,
    CommandQueue,
    Ownership,
    Quarantine,
    SessionReader,
    SessionStore,
    Subscription,
)
from turnstream.ports.values import (
    START,
    CommandEntry,
    IndexEntry,
    Loaded,
    LoadedSession,
    MalformedEntry,
    MessageRange,
    Needs,
    Outcome,
    PartitionState,
    RawEntry,
    RecordedOutcome,
    Rejection,
    Reply,
    SessionNeeds,
    SessionWrite,
    Status,
    StoredHeader,
    entry_time,
    milliseconds,
)

__all__ = [
    "AGE_PRECISION",
    "START",
    "Backend",
    "Batch",
    "Channels",
    "CommandEntry",
    "CommandQueue",
    "EventLog",
    "EventPage",
    "IndexEntry",
    "Loaded",
    "LoadedSession",
    "MalformedEntry",
    "MessageRange",
    "Needs",
    "Outcome",
    "Ownership",
    "ParkedCommand",
    "ParkedSession",
    "ParkingChanges",
    "PartitionState",
    "Quarantine",
    "RawEntry",
    "RecordedOutcome",
    "Rejection",
    "Reply",
    "SessionNeeds",
    "SessionReader",
    "SessionStore",
    "SessionWrite",
    "Status",
    "StoredHeader",
    "Subscription",
    "entry_time",
    "milliseconds",
]
