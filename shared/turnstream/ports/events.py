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
    """What a partition's event stream holds behind a sequence, read in one step.

    `generation` is "" where no worker ever took the partition. `former` are the generations before it, newest first,
    each with the last sequence that survived of it. `oldest` is the sequence of the oldest event that is kept,
    `head + 1` where none is; `head` is the last one that may be told: in the stricter modes of durability the last
    that is safe. `types` are the last sequences of each type of event, `session` is the last sequence of the events of
    the session that was asked for (0: it is not there, or none was asked for); both may lie above `head`, as events do
    that may not be told yet. `payloads` are sequences and envelopes, ascending, none above `head`.
    """

    generation: str
    former: Sequence[tuple[str, int]]
    oldest: int
    head: int
    types: Mapping[str, int]
    session: int
    payloads: Sequence[tuple[int, bytes]]


class EventLog(Protocol):
    """The event streams, as anybody may read them."""

    async def read(self, partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        """Return up to `count` events behind a sequence (0: none, only how things stand), all of one moment.

        There may be fewer although more are kept, where they are large; at least one, if there is one. `session_id`
        names a session of the partition, whose last sequence is wanted as well.

        Raises:
            Unavailable: the server does not answer.

        """
        ...

    async def written_before(self, partition: int, moment: datetime) -> int:
        """Return a sequence up to which all events were written before a moment; 0 where nothing is known of that.

        It may be an earlier one by `1 / AGE_PRECISION` of the age for which events are kept. What tells it are the
        marks of retention: an event's own time is that of its command, which may have waited.

        Raises:
            Unavailable: the server does not answer.

        """
        ...
