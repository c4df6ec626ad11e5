"""The time that a caller gives to a call: one for all of its steps."""

import asyncio
import math
from typing import cast

import msgspec

from turnstream.errors import InvalidCommand


class Deadline(msgspec.Struct, frozen=True, gc=False):
    """When a call began and when it is to end, in seconds of the event loop's clock."""

    began: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Begin now.

        Raises:
            InvalidCommand: that is no number of seconds.

        """
        # A caller may have given anything.
        if not isinstance(cast("object", seconds), (int, float)) or math.isnan(seconds):
            raise InvalidCommand("timeout", "Expected a number of seconds")
        now = asyncio.get_running_loop().time()
        return cls(now, now + seconds)

    @property
    def left(self) -> float:
        """The seconds that are left, 0 when it is over."""
        return max(0.0, self.at - asyncio.get_running_loop().time())

    @property
    def passed(self) -> float:
        """The seconds that have passed, as an error tells them."""
        return float(f"{asyncio.get_running_loop().time() - self.began:.3g}")
