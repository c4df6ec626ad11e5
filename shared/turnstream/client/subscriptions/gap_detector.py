"""Detects the gaps in what one subscriber receives of one partition (design §6).

A partition is in one of two states:

- **live**: events are delivered as pub/sub brings them, as long as each follows the one before it;
- **catching up**: events come from pages of the event log.

It becomes live when a page reaches the head of the event log (`finish_page`). It goes back to catching up

- when a live event does not follow the last one, or the buffer is full (`accept_live`),
- when the connection was lost (`interrupt`), and
- when the head of the event log shows that the last live event never arrived (`check_head`).

An event names its predecessors, so a subscriber that receives only some events still detects a missing one:

| subscriber to | an event follows if |
|---|---|
| all events | its sequence is the next one |
| one session | its `previous_of_session` was delivered |
| some types | its `previous_of_type` was delivered; each type is a chain that has gaps independently of the others |

While a page is being read, live events are held (`start_page`, `release_held`): the page may end before them.
"""

from collections import deque
from collections.abc import Iterable

from turnstream.client.subscriptions.resync import HistoryGap
from turnstream.domain.events import AnyEvent, EventMeta, SessionDeleted
from turnstream.domain.position import LogPosition
from turnstream.ports import EventPage

MAX_HELD_EVENTS = 256
"""Live events that are held while a page is read; if more arrive, the oldest are read from the event log."""


class EventFilter:
    """The events that a subscriber has asked for."""

    def __init__(self, types: Iterable[str], session_id: str | None, session_prefix: str = "") -> None:
        """Include these types (if empty: all), of one session or of all sessions whose ids start with the prefix."""
        self.types = frozenset(types)
        self.session_id = session_id
        self._session_prefix = session_prefix

    def includes(self, event: AnyEvent) -> bool:
        """Return whether the subscriber has asked for an event."""
        of_type = not self.types or event.type in self.types
        return of_type and self.in_chain(event) and event.session_id.startswith(self._session_prefix)

    def in_chain(self, event: AnyEvent) -> bool:
        """Return whether an event belongs to a chain in which gaps are detected; it may still not be included."""
        if self.session_id is not None:
            return event.session_id == self.session_id
        return not self.types or event.type in self.types

    @property
    def per_type_chains(self) -> bool:
        """Whether each type is a chain: if types were asked for, and not one session."""
        return self.session_id is None and bool(self.types)


class GapDetector:
    """Tracks one partition for one subscriber; every wanted event up to `position` is delivered.

    While `is_live`, the next pub/sub event may be delivered directly; otherwise events come from the event log. With
    several types, gaps are detected for each type, so `position` is the lowest confirmed one: events of one type after
    it may be delivered already. A head check or a page then confirms that the other types have no gap.
    """

    def __init__(self, wanted: EventFilter, position: LogPosition) -> None:
        """Start after a position, catching up."""
        self.is_live = False
        self._wanted = wanted
        self._generation = position.generation
        # The last event that was delivered or skipped, of any type.
        self._sequence = position.sequence
        # Up to here nothing is missing, of any type; `_last_of_type` has the types that are confirmed further.
        self._confirmed = position.sequence
        self._last_of_type: dict[str, int] = {}
        self._held: deque[tuple[AnyEvent, int]] | None = None

    @property
    def position(self) -> LogPosition:
        """The position up to which every wanted event is delivered."""
        return LogPosition(self._generation, self.sequence)

    @property
    def sequence(self) -> int:
        """The sequence of `position`, after which the event log is to be read."""
        if self._wanted.per_type_chains:
            return min(map(self._confirmed_of, self._wanted.types))
        return self._sequence

    def accept_live(self, event: AnyEvent, size: int, *, room: bool) -> bool:
        """Accept a live event for delivery if it is the next one; otherwise start catching up, unless it is old.

        Args:
            event: an event of a chain of this subscriber.
            size: its bytes, which `release_held` returns with it.
            room: whether the buffer has room; without, the event is read from the event log later.

        Returns:
            Whether the event is to be delivered now.

        """
        meta = _meta(event)
        if self.is_live and meta.generation == self._generation and meta.sequence <= self._sequence:
            return False
        if self.is_live and room and self._is_next(event, meta):
            self._sequence = self._last_of_type[event.type] = meta.sequence
            return True
        self.is_live = False
        if self._held is not None:
            self._held.append((event, size))
        return False

    def start_page(self) -> None:
        """Start to hold live events; the page being read may not include them."""
        self._held = deque(maxlen=MAX_HELD_EVENTS)

    def release_held(self) -> Iterable[tuple[AnyEvent, int]]:
        """Return once the live events that were held, with their sizes, and stop holding."""
        held, self._held = self._held, None
        return held or ()

    def interrupt(self) -> None:
        """Catch up before the next live event, because live events may be lost."""
        self.is_live = False
        self._held = None

    def align(self, page: EventPage) -> HistoryGap | None:
        """Move to the generation of `page`; return the gap between it and the last seen position, if any."""
        seen, gap = LogPosition(self._generation, self._sequence), None
        if self._generation != page.generation:
            gap = self._change_generation(page, seen)
        start = before_oldest(page)
        missing = start - self.sequence
        if missing > 0:
            if gap is None and self._may_have_missed(page, start):
                gap = HistoryGap("retention", missing, seen)
            self._confirm(start)
        return gap

    def accept_stored(self, event: AnyEvent, sequence: int) -> bool:
        """Accept an event of a page, in a chain of this subscriber; return whether it was not delivered before."""
        if self._wanted.per_type_chains and sequence <= self._confirmed_of(event.type):
            return False
        self._confirmed = max(self._confirmed, sequence)
        self._sequence = max(self._sequence, sequence)
        return True

    def finish_page(self, page: EventPage) -> None:
        """Confirm all events of a page; become live if it reaches the head of the event log."""
        self._confirm(max(self.sequence, page.payloads[-1][0] if page.payloads else page.head))
        self.is_live = self.sequence >= page.head

    def check_head(self, page: EventPage | None) -> None:
        """Detect a lost live event that no later event would reveal; `None` if the head could not be read.

        `page` is the head read before a PING. The PONG has been received since, so all events up to that head must
        have arrived by now.
        """
        if not self.is_live:
            return
        if page is None or page.generation != self._generation or self._may_have_missed(page, page.head):
            self.is_live = False
        else:
            self._confirm(page.head)

    def _confirm(self, sequence: int) -> None:
        """Note that no event up to a sequence is missing, of any type."""
        self._confirmed = max(self._confirmed, sequence)
        self._sequence = max(self._sequence, sequence)
        self._last_of_type = {name: last for name, last in self._last_of_type.items() if last > self._confirmed}

    def _confirmed_of(self, name: str) -> int:
        return max(self._last_of_type.get(name, 0), self._confirmed)

    def _restart(self, generation: str, sequence: int) -> None:
        self._generation = generation
        self._sequence = self._confirmed = sequence
        self._last_of_type.clear()

    def _change_generation(self, page: EventPage, seen: LogPosition) -> HistoryGap | None:
        """Continue in the page's generation, after the last event that it shares with the current one, if known.

        The page lists the generations before its own, each with the last event that survived: later ones of that
        generation, which this subscriber may have received, were rolled back.
        """
        if not self._generation:
            # The partition had no history when the subscription started.
            self._restart(page.generation, 0)
            return None
        survived = dict(page.former).get(self._generation)
        if survived is None:
            self._restart(page.generation, before_oldest(page))
            return HistoryGap("reset", None, seen)
        lost = self._sequence - survived
        self._generation, self._sequence = page.generation, min(self._sequence, survived)
        self._confirmed = min(self._confirmed, survived)
        self._last_of_type = {name: min(last, survived) for name, last in self._last_of_type.items()}
        return HistoryGap("failover", lost, seen) if lost > 0 else None

    def _is_next(self, event: AnyEvent, meta: EventMeta) -> bool:
        """Return whether no wanted event is missing between the last one and this one."""
        if meta.generation != self._generation:
            return False
        if self._wanted.session_id is not None:
            # The first event of a session has no predecessor. An earlier session of the same id may have been deleted,
            # and its last events lost, so the event log is read.
            return 0 < meta.previous_of_session <= self._sequence
        if self._wanted.types:
            return meta.previous_of_type <= self._confirmed_of(event.type)
        return meta.sequence == self._sequence + 1

    def _may_have_missed(self, page: EventPage, up_to: int) -> bool:
        """Return whether wanted events may exist after the confirmed ones, up to a sequence."""
        wanted = self._wanted
        if wanted.session_id is not None:
            # A deleted session has no last sequence, but its deletion is one of the `SessionDeleted` events.
            return self._sequence < min(up_to, page.session or page.types.get(SessionDeleted.type, 0))
        if wanted.types:
            return any(self._confirmed_of(name) < min(up_to, page.types.get(name, 0)) for name in wanted.types)
        return self._sequence < up_to


def before_oldest(page: EventPage) -> int:
    """Return the sequence before the oldest readable event.

    Events that were trimmed before they were durable are above the head: they arrive live.
    """
    return min(page.oldest - 1, page.head)


def _meta(event: AnyEvent) -> EventMeta:
    if event.meta is None:
        raise ValueError("a published event has a sequence in its event log")
    return event.meta
