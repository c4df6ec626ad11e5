"""What a listener may hold to be true of a partition, by all it saw and was told."""

from collections.abc import Iterable, Sequence

from tests.chaos.history import Gone, Seen

Identity = tuple[int, str]
"""An event's sequence and id."""


class Account:
    """The events that were seen and that were not taken back, and the spans that were told to be gone."""

    def __init__(self, seen: Iterable[Seen | Gone], head: int) -> None:
        """Go through what was seen of a partition, in its order; up to `head` nothing was asked for."""
        self.repeated: str | None = None
        """The first event that came twice, or too late."""
        self._head = head
        self._events: dict[int, str] = {}
        self._last = 0
        self._gone: list[range] = []
        for one in seen:
            self._add(one)

    def differs_from(self, expected: Sequence[Identity]) -> str | None:
        """Tell where it is not what has happened in the end, of which nothing is left out."""
        happened = {sequence: event_id for sequence, event_id in expected if sequence > self._head}
        for sequence, event_id in self._events.items():
            if happened.get(sequence) != event_id:
                return f"{(sequence, event_id)} instead of {happened.get(sequence)}, and no loss was told"
        missing = [one for one in happened if one not in self._events and not any(one in gone for gone in self._gone)]
        return f"nothing of {len(missing)} events from {missing[0]} on, and no loss was told" if missing else None

    def _add(self, seen: Seen | Gone) -> None:
        if isinstance(seen, Gone):
            self._break(seen)
        elif seen.sequence > self._head:
            if seen.sequence <= self._last:
                self.repeated = self.repeated or f"{seen.sequence} behind {self._last}"
            self._last = seen.sequence
            self._events[seen.sequence] = seen.event_id

    def _break(self, gone: Gone) -> None:
        """Take back what the server did not keep; what lies between there and where it goes on is excused."""
        kept = gone.kept
        # Numbers that were given before it listened are given again.
        self._head = min(self._head, kept)
        self._events = {sequence: event_id for sequence, event_id in self._events.items() if sequence <= kept}
        self._last = min(self._last, kept)
        self._gone.append(range(kept + 1, gone.sequence + 1))
