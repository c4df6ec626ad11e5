"""The outcomes of commands, for as long as a resend is recognised (design §2)."""

from turnstream.codec.envelope import entry_time


class Outcomes:
    """Outcomes, encoded, with the times of their commands' stream entries, oldest first."""

    def __init__(self, window: float) -> None:
        """Keep outcomes for `window` seconds of the stream's time."""
        self._window = int(window * 1000)
        self._kept: dict[str, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def record(self, command_id: str, entry_ms: int, outcome: bytes) -> None:
        """Keep an outcome."""
        self._kept.pop(command_id, None)
        self._kept[command_id] = (entry_ms, outcome)

    def find(self, command_id: str, entry_ms: int) -> bytes | None:
        """Return the outcome of an earlier entry with this command id, unless it is out of the window."""
        kept_ms, outcome = self._kept.get(command_id, (0, None))
        return outcome if entry_ms - kept_ms <= self._window else None

    def forget(self, cursor: str) -> None:
        """Forget the outcomes that no entry after a cursor can need."""
        oldest = entry_time(cursor) - self._window
        while self._kept:
            command_id = next(iter(self._kept))
            if self._kept[command_id][0] >= oldest:
                return
            del self._kept[command_id]
