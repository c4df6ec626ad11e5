"""`ResyncRequired`: the notice to a subscriber that some events cannot be delivered any more (design §6)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

import msgspec

from turnstream.domain.json_input import convert
from turnstream.domain.models import Entity
from turnstream.domain.position import LogPosition, Position
from turnstream.domain.wire_form import variant
from turnstream.errors import InvalidCommand
from turnstream.logging import get_logger

_encode = msgspec.json.Encoder().encode
log = get_logger(__name__)

Reason = Literal["retention", "failover", "reset", "parking"]


class ResyncRequired(Entity, frozen=True, kw_only=True):
    """Some events of a partition are lost to this subscriber: read the current state of its sessions, then continue.

    The events that follow have no gap again.

    `reason` is why. `retention`: the events were trimmed, because of their age or number, before they were read; at
    most `lost` events, of all types. `failover`: the server continued from an older state, which rolled back the last
    `lost` events that were delivered. `reset`: the server does not know the history that was delivered, because it was
    flushed or is another server; `lost` is `None`. `parking`: a durable subscription dropped `lost` events of the
    parked session `session_id`, because its queue was full.

    `seen` and `resumed` are the positions in the partition's event log between which this happened. `position` is the
    one to store.
    """

    type: ClassVar[str] = "resync-required"
    partition: int
    reason: Reason
    lost: int | None
    seen: LogPosition
    resumed: LogPosition
    position: Position
    session_id: str | None = None

    def to_json(self) -> bytes:
        """Return the notice as JSON, with its `type`, and with the position as text."""
        return _encode({"type": self.type, **msgspec.to_builtins(self), "position": str(self.position)})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the notice that `to_dict` or `to_json` wrote.

        Raises:
            InvalidCommand: a field is missing or has the wrong type.

        """
        variant(data, {cls.type: cls}, cls)
        try:
            position = Position.parse(str(data.get("position")))
        except ValueError as error:
            raise InvalidCommand("$.position", str(error)) from error
        return convert({**data, "position": position}, cls)


class HistoryGap(NamedTuple):
    """Events after the position `seen` that cannot be delivered: how many, `None` if that is unknown, and why."""

    reason: Reason
    lost: int | None
    seen: LogPosition


def resync_for(
    gap: HistoryGap, partition: int, resumed: LogPosition, position: Position, session_id: str | None = None
) -> ResyncRequired:
    """Log a gap in a partition and return the notice about it; `resumed` is the log position after the gap."""
    log.warning("history is gone", partition=partition, reason=gap.reason, lost=gap.lost)
    return ResyncRequired(
        partition=partition,
        reason=gap.reason,
        lost=gap.lost,
        seen=gap.seen,
        resumed=resumed,
        position=position,
        session_id=session_id,
    )


def position_of_one(partition: int, partitions: int, log_position: LogPosition) -> Position:
    """Return the position of a deployment of which only one partition is known."""
    return Position(tuple(log_position if number == partition else None for number in range(partitions)))
