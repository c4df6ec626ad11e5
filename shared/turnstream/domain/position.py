"""Where a subscriber stands in the history of a deployment (design §6)."""

from typing import Self

import msgspec

from turnstream.domain.showing import show

Mark = tuple[str, int]
"""A place in one partition's history: the generation, and the sequence of the last event before it."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """What a subscriber has seen: a mark for each partition, `None` for those that it does not listen to.

    Store `str(position)`; `Position.parse` reads it again.
    """

    marks: tuple[Mark | None, ...]

    def __repr__(self) -> str:
        """Show of how many partitions it is: whole, `str` gives it."""
        return show(self)

    def __str__(self) -> str:
        """Return it as text: `generation:sequence` of each partition, with commas between, nothing for `None`."""
        return ",".join(f"{mark[0]}:{mark[1]}" if mark else "" for mark in self.marks)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a position that was stored as text.

        Raises:
            ValueError: it is none.

        """
        return cls(tuple(_mark(part) for part in text.split(",")))


def _mark(text: str) -> Mark | None:
    if not text:
        return None
    generation, colon, sequence = text.rpartition(":")
    if not colon or not sequence.isascii() or not sequence.isdigit():
        raise ValueError(f"Not a position, as `str(position)` writes it: {text[:80]!r}")
    return generation, int(sequence)
