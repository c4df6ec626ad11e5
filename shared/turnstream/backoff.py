"""How long to wait before trying again (design §4: capped, jittered)."""

import random

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
        """Tell whether the last attempt failed."""
        return self._failures > 0

    def succeeded(self) -> None:
        """Start short again."""
        self._failures = 0

    def failed(self) -> float:
        """Return the seconds to wait now: at random up to a bound that doubles."""
        self._failures = min(self._failures + 1, 16)
        return pause(self._failures, self._longest, self._first)
