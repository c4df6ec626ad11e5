"""How long to wait before trying again (design §4: capped, jittered)."""

import math
import random
from collections.abc import Hashable
from time import monotonic
from typing import Generic, TypeVar

FIRST = 0.05
LONGEST = 2.0


def pause(failures: int, longest: float | None = None, first: float | None = None) -> float:
    """Return the seconds to wait after so many failures in a row: at random up to a bound that doubles.

    The bound is `first` seconds after one failure, in the end `longest`; by default these are `FIRST` and `LONGEST`.
    """
    first, longest = (FIRST if first is None else first), (LONGEST if longest is None else longest)
    bound = min(longest, first * 2.0 ** min(failures - 1, 64))
    return bound * random.uniform(0.5, 1.0)  # noqa: S311 - spreads attempts, keeps no secret


class Backoff:
    """Grows with every failure in a row."""

    def __init__(self, first: float | None = None, longest: float | None = None) -> None:
        """Start short: up to `first` seconds, in the end `longest`; of everything else these are `FIRST`, `LONGEST`."""
        self._first = first
        self._longest = longest
        self._failures = 0

    @property
    def failing(self) -> bool:
        """Return whether the last attempt failed."""
        return self._failures > 0

    def succeeded(self) -> None:
        """Start short again."""
        self._failures = 0

    def failed(self) -> float:
        """Return the seconds to wait now: at random up to a bound that doubles."""
        self._failures = min(self._failures + 1, 16)
        return pause(self._failures, self._longest, self._first)


Key = TypeVar("Key", bound=Hashable)


class Faults(Generic[Key]):
    """Failures by key, as of partitions: each is paused for a while, longer after each failure in a row."""

    def __init__(self) -> None:
        """Know of none."""
        self._backoffs: dict[Key, Backoff] = {}
        self._reasons: dict[Key, str] = {}
        self._until: dict[Key, float] = {}

    def __bool__(self) -> bool:
        """Return whether anything has failed that is not over."""
        return bool(self._until)

    def __contains__(self, key: Key) -> bool:
        """Return whether a key has failed, and that is not over."""
        return key in self._until

    @property
    def failing(self) -> list[Key]:
        """The keys whose failure has not ended."""
        return list(self._until)

    def failed(self, key: Key, reason: str) -> bool:
        """Note a failure; return whether it differs from the last one there, and so deserves a line in the log."""
        self._until[key] = monotonic() + self._backoffs.setdefault(key, Backoff()).failed()
        known, self._reasons[key] = self._reasons.get(key), reason
        return known != reason

    def is_paused(self, key: Key) -> bool:
        """Return whether a key is paused now."""
        return self._until.get(key, 0.0) > monotonic()

    def is_quiet(self, key: Key) -> bool:
        """Return whether a key that failed has not done so again, for longer than it was paused."""
        return self._until.get(key, math.inf) + LONGEST < monotonic()

    def clear(self, key: Key) -> bool:
        """Forget the failure of a key; return whether there was one."""
        self._backoffs.pop(key, None)
        self._reasons.pop(key, None)
        return self._until.pop(key, None) is not None
