"""A batch: the content of one commit (design §3)."""

from collections.abc import Mapping, Sequence

import msgspec

from turnstream.domain.events import AnyEvent
from turnstream.ports.parked import ParkingChanges
from turnstream.ports.values import MalformedEntry, PartitionState, RecordedOutcome, Reply, SessionWrite


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Everything that applying some commands of a partition changes, in one atomic step.

    It must be written before `until`, in milliseconds since 1970 by the clock of the server, or not at all.
    """

    before: PartitionState
    after: PartitionState
    writes: Sequence[SessionWrite]
    events: Sequence[AnyEvent]
    outcomes: Sequence[RecordedOutcome]
    replies: Mapping[str, Sequence[Reply]]
    malformed: Sequence[MalformedEntry]
    parking: ParkingChanges | None = None
    until: int | None = None
    frees: bool = False
    """Its last command only frees memory, so it is written on a full server, too."""
