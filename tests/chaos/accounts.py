"""What a subscriber may hold to be true of a partition, by all it saw and was told."""

from collections.abc import Sequence

from tests.chaos.history import Gone, Listening, Seen

Identity = tuple[int, str]
"""An event's sequence and id."""


class Account:
    """The events that a subscriber saw and that were not taken back, and the spans that it was told are gone."""

    def __init__(self, listening: Listening, partition: int) -> None:
        """Go through what was seen of a partition, in its order."""
        self.repeated: str | None = None
        """The first event that came twice, or too late."""
        self._head = listening.heads.get(partition, 0)
        self._events: dict[int, str] = {}
        self._last = 0
        self._gone: list[range] = []
        for seen in listening.seen:
            if seen.partition == partition:
                self._add(seen)

    def differs_from(self, expected: Sequence[Identity]) -> str | None:
        """Tell where it is not what has happened in the end, of which nothing is left out."""
        happened = dict(expected)
        for sequence, event_id in self._events.items():
            if happened.get(sequence) != event_id:
                return f"saw {(sequence, event_id)} instead of {happened.get(sequence)}"
        missing = [one for one in happened if one not in self._events and not any(one in gone for gone in self._gone)]
        return f"was not told of the loss of {len(missing)} events from {missing[0]} on" if missing else None

    def _add(self, seen: Seen | Gone) -> None:
        if isinstance(seen, Gone):
            self._break(seen)
        elif seen.sequence > self._head:
            if seen.sequence <= self._last:
                self.repeated = self.repeated or f"saw {seen.sequence} behind {self._last}"
            self._last = seen.sequence
            self._events[seen.sequence] = seen.event_id

    def _break(self, gone: Gone) -> None:
        """Take back what the server did not keep; what lies between there and where it goes on is excused."""
        kept = 0 if gone.lost is None else gone.seen - gone.lost if gone.reason == "failover" else gone.seen
        self._events = {sequence: event_id for sequence, event_id in self._events.items() if sequence <= kept}
        self._last = min(self._last, kept)
        self._gone.append(range(kept + 1, gone.sequence + 1))
