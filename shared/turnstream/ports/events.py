"""Reading the events of the past (design §6)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

AGE_PRECISION = 64
"""Into so many parts the age is divided for which events are kept; one may stay for a part longer, never shorter."""

SIZE_PRECISION = 64
"""Into so many parts the bytes are divided that events may have together; a part fewer may be kept, never more."""


class EventPage(msgspec.Struct, frozen=True, gc=False):
    """The events of a partition after a sequence, and the state of its stream, read in one step.

    `generation` is "" if no worker ever took the partition. `former` are the generations before it, newest first, each
    with the last sequence that survived of it. `oldest` is the sequence of the oldest kept event, `head + 1` if there
    is none. `head` is the last event that may be published: at the stricter durability levels the last durable one.
    `types` are the last sequences of each type of event, and `session` is the last sequence of the requested session
    (0: it is not there, or none was requested). Both may be above `head`, like events that may not be published yet.
    `payloads` are sequences and envelopes, ascending, none above `head`.
    """

    generation: str
    former: Sequence[tuple[str, int]]
    oldest: int
    head: int
    types: Mapping[str, int]
    session: int
    payloads: Sequence[tuple[int, bytes]]


class EventLog(Protocol):
    """Reads of the event streams, for every client."""

    async def read(self, partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        """Return up to `count` events after a sequence (0: only the state of the stream), all of one moment.

        Fewer events may be returned if they are large, but at least one if there is one. `session_id` requests the
        last sequence of a session of the partition as well.

        Raises:
            Unavailable: the server does not answer.

        """
        ...

    async def written_before(self, partition: int, moment: datetime) -> int:
        """Return a sequence up to which all events were written before a moment; 0 if it is not known.

        It may be too early by `1 / AGE_PRECISION` of the age for which events are kept. It comes from the marks of
        retention: the time in an event is that of its command, which may have waited.

        Raises:
            Unavailable: the server does not answer.

        """
        ...
