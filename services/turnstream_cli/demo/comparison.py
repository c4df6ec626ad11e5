"""The comparison of what was sent with what was found: what is lost, doubled, new, or out of order."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from turnstream import ChatMessage, Session, TextContent
from turnstream.events import Event, MessageAdded, SessionCreated

Item = tuple[str, str]
"""The effect of a command: the id of a message and its text, or `CREATED`."""

CREATED: Item = ("", "created")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences, counted in items; `misordered` counts sessions."""

    sent: int
    lost: int
    doubled: int
    unknown: int
    misordered: int

    @property
    def passed(self) -> bool:
        """Whether there is no difference."""
        return not (self.lost or self.doubled or self.unknown or self.misordered)

    def __str__(self) -> str:
        """Return the counts as one line."""
        order = f"{self.misordered} sessions out of order" if self.misordered else "order kept"
        unknown = f", {self.unknown} never sent" if self.unknown else ""
        return f"{self.lost:,} lost, {self.doubled:,} applied twice{unknown}, {order}"

    def worst(self, other: "Comparison") -> "Comparison":
        """Return the larger count of each difference."""
        return Comparison(
            self.sent,
            max(self.lost, other.lost),
            max(self.doubled, other.doubled),
            max(self.unknown, other.unknown),
            max(self.misordered, other.misordered),
        )


def compare(sent: Mapping[str, Sequence[Hashable]], found: Mapping[str, Sequence[Hashable]]) -> Comparison:
    """Compare, for each session, the items that were sent with those that were found, both in order."""
    lost = doubled = unknown = misordered = 0
    for session_id in sent.keys() | found.keys():
        wanted, here = sent.get(session_id, ()), found.get(session_id, ())
        known, counts = set(wanted), Counter(here)
        lost += len(known - counts.keys())
        doubled += sum(counts[item] - 1 for item in known & counts.keys())
        unknown += sum(count for item, count in counts.items() if item not in known)
        once = [item for item in dict.fromkeys(here) if item in known]
        misordered += once != [item for item in wanted if item in counts]
    return Comparison(sum(map(len, sent.values())), lost, doubled, unknown, misordered)


def item_of_message(message: ChatMessage) -> Item:
    """Return the item that a message of text is."""
    return message.id, "".join(part.text for part in message.content if isinstance(part, TextContent))


def items_of_session(session: Session | None) -> list[Item]:
    """Return the items that a stored session holds; none if there is no such session."""
    return [] if session is None else [CREATED, *map(item_of_message, session.messages)]


def item_of_event(event: Event) -> Item:
    """Return the item that an event reports; what the demo never caused is an item that was never sent."""
    match event:
        case SessionCreated():
            return CREATED
        case MessageAdded():
            return item_of_message(event.message)
        case _:
            return event.type, event.session_id
