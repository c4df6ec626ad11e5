"""What a subscriber is told when history it has not seen is gone (design §6)."""

from typing import ClassVar, Literal

from turnstream.domain.models import Entity
from turnstream.domain.position import Mark, Position

Reason = Literal["retention", "failover", "reset", "parking"]


class ResyncRequired(Entity, frozen=True, kw_only=True):
    """Events of a partition cannot be given any more: read the state of what you keep of it, and go on.

    What follows in the iteration is again without a gap.

    `reason` says why. `retention`: the events were taken from the stream before they were read, for they were too old
    or too many; `lost` of them at most, the partition's of all types. `failover`: the server went on from an older
    state, and takes back the last `lost` events that were seen. `reset`: the history that was seen is not known there
    at all, it was flushed or is another server's; `lost` is `None`. `parking`: a durable subscription could not keep
    `lost` events of the parked session `session_id`, for too many waited.

    `seen` and `resumed` are the places in the partition's history between which this happened; `position` is the one
    to store.
    """

    type: ClassVar[str] = "resync-required"
    partition: int
    reason: Reason
    lost: int | None
    seen: Mark
    resumed: Mark
    position: Position
    session_id: str | None = None
