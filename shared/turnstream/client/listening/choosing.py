"""Which classes of event a subscriber has named."""

from collections.abc import Sequence

from turnstream.client.listening.resync import ResyncRequired
from turnstream.domain.events import EVENTS, Event


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
