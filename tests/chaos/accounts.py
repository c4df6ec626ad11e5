"""The history of a partition as a listener knows it: the events it received and the gaps reported to it."""

from collections.abc import Iterable, Sequence

from tests.chaos.history import Gone, Seen

Identity = tuple[int, str]
"""An event's sequence and id."""


class Account:
    """The received events that were not rolled back, and the ranges that were reported as lost."""

    def __init__(self, seen: Iterable[Seen | Gone], head: int) -> None:
        """Record the received events and gaps of a partition in order; events up to `head` were not asked for."""
        self.repeated: str | None = None
        """The first event that came twice, or too late."""
        self._head = head
        self._events: dict[int, str] = {}
        self._last = 0
        self._gone: list[range] = []
        for one in seen:
            self._add(one)

    def differs_from(self, expected: Sequence[Identity]) -> str | None:
        """Return the first difference from the events of the partition at the end of the run, `None` without one."""
        happened = {sequence: event_id for sequence, event_id in expected if sequence > self._head}
        for sequence, event_id in self._events.items():
            if happened.get(sequence) != event_id:
                return f"{(sequence, event_id)} instead of {happened.get(sequence)}, and no loss was reported"
        missing = [one for one in happened if one not in self._events and not any(one in gone for gone in self._gone)]
        return f"nothing of {len(missing)} events from {missing[0]} on, and no loss was reported" if missing else None

    def _add(self, seen: Seen | Gone) -> None:
        if isinstance(seen, Gone):
            self._break(seen)
        elif seen.sequence > self._head:
            if seen.sequence <= self._last:
                self.repeated = self.repeated or f"{seen.sequence} after {self._last}"
            self._last = seen.sequence
            self._events[seen.sequence] = seen.event_id

    def _break(self, gone: Gone) -> None:
        """Remove the events that the server rolled back; those between there and the next one are excused."""
        kept = gone.kept
        # Numbers that were given before it listened are given again.
        self._head = min(self._head, kept)
        self._events = {sequence: event_id for sequence, event_id in self._events.items() if sequence <= kept}
        self._last = min(self._last, kept)
        self._gone.append(range(kept + 1, gone.sequence + 1))
