"""How often an event is tried that a subscriber's handler does not take, and when its session is parked (design §6)."""

from datetime import timedelta

import msgspec

from turnstream.backoff import pause

ATTEMPTS = 10
"""How often an event is tried before its session is parked: about ten seconds."""

FREE = 100
"""Sessions that a member sets aside at once while nothing succeeds; each further one waits twice as long."""

DOUBLINGS = 16
"""How often limits are doubled at most."""


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """When an event that was not handled is tried again, and when its session is parked.

    Args:
        attempts: how often an event is tried, `None` for no limit.
        seconds: for how long it is tried after its first failure, `None` for no limit; the session is parked when one
            of the limits is reached.
        longest_pause: seconds of the longest pause between two attempts; pauses double, and are jittered.
        parked_every: seconds after which a parked session is tried once more, again and again; when it is handled, the
            others that wait are tried at once, some at a time. `None`: a parked session waits for an operator.

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

    def are_over(self, attempts: int, since_first: timedelta, doublings: int) -> bool:
        """Tell whether an event has been tried often enough, where its limits were doubled so often."""
        times: int = 1 << doublings
        too_often = self.attempts is not None and attempts >= self.attempts * times
        return too_often or (self.seconds is not None and since_first.total_seconds() >= self.seconds * times)


class Fortune:
    """What succeeded and failed of late in all partitions of a member: it tells an outage from events at fault."""

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self._set_aside = 0
        self._given_up = 0

    @property
    def doublings(self) -> int:
        """How often the limits are doubled for the next session that is to be parked."""
        return min(self._given_up, DOUBLINGS)

    @property
    def patience(self) -> int:
        """How often an event is tried in its place before its session is set aside."""
        return 1 << min(max(0, self._set_aside - FREE), DOUBLINGS)

    def succeeded(self) -> None:
        """Take note that an event was handled."""
        self._set_aside = self._given_up = 0

    def set_aside(self) -> None:
        """Take note that a session was set aside."""
        self._set_aside += 1

    def gave_up(self, doublings: int) -> None:
        """Take note that a session was parked, after its limits were doubled so often."""
        self._given_up = max(self._given_up, doublings) + 1
