"""What a subscriber has asked for: which classes of event, and from where on."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from turnstream.client.listening.resync import ResyncRequired
from turnstream.domain.events import EVENTS, Event
from turnstream.domain.position import Position

Start = Literal["now", "beginning"] | Position


def types_of(classes: Sequence[object]) -> list[str]:
    """Return the wire types of classes of event, none for all; `Event` stands for all.

    Raises:
        ValueError: one of them is no class of event.

    """
    for given in classes:
        if given is ResyncRequired:
            raise ValueError("ResyncRequired is told to every subscription: name only the events that you want")
        if given is not Event and given not in EVENTS.values():
            known = ", ".join(event.__name__ for event in EVENTS.values())
            raise ValueError(f"{given!r} is no class of event; these are: {known}, and Event for all")
    return [] if Event in classes else [name for name, event in EVENTS.items() if event in classes]


def checked_start(start: Start, own: Iterable[int], partitions: int) -> Start:
    """Return where to start in these partitions of so many.

    Raises:
        ValueError: the position is one of another deployment, or of other sessions.

    """
    if not isinstance(start, Position):
        if start not in get_args(get_args(Start)[0]):
            raise ValueError(f"start is 'now', 'beginning' or a Position, not {start!r}")
        return start
    if len(start.marks) != partitions:
        raise ValueError(f"The position is of {len(start.marks)} partitions, the deployment has {partitions}")
    missing = [number for number in own if start.marks[number] is None]
    if missing:
        raise ValueError(
            f"The position knows nothing of partition {missing[0]}: it was stored by a subscription to one session, "
            "and serves that session only",
        )
    return start
