"""How often a failed event is handled again, and when its session is parked (design §6)."""

from datetime import timedelta

import msgspec

from turnstream.backoff import pause

ATTEMPTS = 10
"""Attempts to handle an event before its session is parked, by default: they take about ten seconds."""

RETRIED_AT_ONCE = 100
"""Sessions that a consumer retries separately at once while no event succeeds; each further one takes twice as long."""

MAX_DOUBLINGS = 16
"""How often a limit is doubled at most."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a failed event is handled again, and when its session is parked.

    Args:
        attempts: the number of attempts to handle an event, `None` for no limit.
        seconds: how long an event is retried after its first failure, `None` for no limit. The session is parked when
            one of the limits is reached.
        longest_pause: seconds of the longest pause between two attempts; pauses double, and are jittered.
        parked_every: seconds between two attempts to handle a parked session; when one succeeds, some of the other
            waiting sessions are tried at once. `None`: a parked session waits for an operator.

    Raises:
        ValueError: a number is out of range, or there is no limit.

    """

    attempts: int | None = ATTEMPTS
    seconds: float | None = None
    longest_pause: float | None = None
    parked_every: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.attempts is None and self.seconds is None:
            raise ValueError("Retries need a limit: attempts, seconds or both")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError("An event is tried at least once: attempts is 1 or more")
        for name in ("seconds", "longest_pause", "parked_every"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is more than 0 and finite, not {value!r}")

    def pause(self, attempts: int) -> float:
        """Return the seconds until the next attempt."""
        return pause(max(1, attempts), self.longest_pause)

    def parked_pause(self) -> float | None:
        """Return the seconds until a parked session is tried again, `None` for never."""
        return None if self.parked_every is None else pause(1, self.parked_every, self.parked_every)

    def is_exhausted(self, attempts: int, since_first: timedelta, doublings: int) -> bool:
        """Return whether an event has reached one of its limits after these have been doubled so often."""
        factor: int = 1 << doublings
        too_often = self.attempts is not None and attempts >= self.attempts * factor
        return too_often or (self.seconds is not None and since_first.total_seconds() >= self.seconds * factor)


class OutageDetector:
    """Distinguishes an outage of what the handler depends on from events at fault, for all partitions of a consumer.

    Each consecutive give-up doubles the attempts granted to the next event; any success resets them. A long outage of a
    dependency then parks few sessions, not one after the other. In the same way, after `RETRIED_AT_ONCE` consecutive
    sessions have failed, an event is tried more often before its session is retried separately.
    """

    def __init__(self) -> None:
        """Start with no failure."""
        self._retried = 0
        self._parked = 0

    @property
    def doublings(self) -> int:
        """How often the limits of the next session are doubled before it is parked."""
        return min(self._parked, MAX_DOUBLINGS)

    @property
    def attempts_in_place(self) -> int:
        """How often an event is tried, with the later ones waiting, before its session is retried separately."""
        return 1 << min(max(0, self._retried - RETRIED_AT_ONCE), MAX_DOUBLINGS)

    def succeeded(self) -> None:
        """Note that an event was handled."""
        self._retried = self._parked = 0

    def session_retried(self) -> None:
        """Note that a session is to be retried separately."""
        self._retried += 1

    def session_parked(self, doublings: int) -> None:
        """Note that a session was parked after its limits had been doubled so often."""
        self._parked = max(self._parked, doublings) + 1
