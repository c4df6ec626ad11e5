"""Points in the event logs of a deployment, from which a subscriber can resume (design §6)."""

from typing import NamedTuple, Self

import msgspec

from turnstream.domain.representation import show


class LogPosition(NamedTuple):
    """A point in the event log of one partition: the generation, and the sequence of the last event before it.

    On the wire and in the store it is the plain pair. The generation is "" while the partition has had no worker.
    """

    generation: str
    sequence: int


class Position(msgspec.Struct, frozen=True, gc=False):
    """The point up to which a subscriber has received events: a log position for each partition.

    It is `None` for a partition that the subscriber does not follow. Store `str(position)`; `Position.parse` reads it.
    """

    log_positions: tuple[LogPosition | None, ...]

    def __repr__(self) -> str:
        """Return the number of partitions; `str` gives the position itself."""
        return show(self)

    def __str__(self) -> str:
        """Return the position as text: `generation:sequence` for each partition, separated by commas, "" for `None`."""
        return ",".join(f"{each.generation}:{each.sequence}" if each else "" for each in self.log_positions)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the position that `str(position)` wrote.

        Raises:
            ValueError: the text is not a position.

        """
        return cls(tuple(_parse(part) for part in text.split(",")))


def is_reached(position: LogPosition | None, goal: LogPosition | None) -> bool:
    """Return whether a log position is at a goal or after it.

    It is if one of them is of no partition, or if the goal is of another generation: then it is never reached later.
    """
    if position is None or goal is None:
        return True
    comparable = position.generation == goal.generation or not (position.generation and goal.generation)
    return not comparable or position.sequence >= goal.sequence


def _parse(text: str) -> LogPosition | None:
    if not text:
        return None
    generation, colon, sequence = text.rpartition(":")
    if not colon or not sequence.isascii() or not sequence.isdigit():
        raise ValueError(f"Not a position, as `str(position)` writes it: {text[:80]!r}")
    return LogPosition(generation, int(sequence))
