"""One partition as a subscriber follows it: what is next, what is missing, and what is gone (design §6)."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from turnstream.client.listening.resync import Reason
from turnstream.domain.events import AnyEvent, EventMeta, SessionDeleted
from turnstream.domain.position import Mark
from turnstream.ports import EventPage

HELD = 256
"""Live events that are held back while the stream is read, to go on from there without another look."""


class Wanted:
    """Which events a subscriber has asked for."""

    def __init__(self, types: Iterable[str], session_id: str | None, session_prefix: str = "") -> None:
        """Want these types (none: all), of one session or of all whose ids begin so."""
        self.types = frozenset(types)
        self.session_id = session_id
        self._session_prefix = session_prefix

    def includes(self, event: AnyEvent) -> bool:
        """Tell whether an event was asked for."""
        of_type = not self.types or event.type in self.types
        return of_type and self.concerns(event) and event.session_id.startswith(self._session_prefix)

    def concerns(self, event: AnyEvent) -> bool:
        """Tell whether an event belongs to the chain by which a missing one is noticed."""
        if self.session_id is not None:
            return event.session_id == self.session_id
        return not self.types or event.type in self.types

    @property
    def has_chains(self) -> bool:
        """Whether each type has a chain of its own, for types were asked for, and no session."""
        return self.session_id is None and bool(self.types)


class Break(NamedTuple):
    """History that cannot be given any more."""

    reason: Reason
    lost: int | None
    seen: Mark


class Following:
    """Up to `mark` everything was taken. While it is live, the next live event is next; otherwise the stream is.

    Of several types each has its chain, so of one more may be taken than is known of the others: then the mark lies
    before what was taken, until a check or the stream shows that nothing is missing.
    """

    def __init__(self, wanted: Wanted, mark: Mark) -> None:
        """Start behind a mark."""
        self.is_live = False
        self._wanted = wanted
        self._generation, self._sequence = mark
        # Up to `_read_up_to` nothing is missing; of a type in `_last`, nothing up to the sequence there.
        self._read_up_to = self._sequence
        self._last: dict[str, int] = {}
        self._held: deque[tuple[AnyEvent, int]] | None = None

    @property
    def mark(self) -> Mark:
        """The place up to which everything was taken."""
        return self._generation, self.behind

    @property
    def behind(self) -> int:
        """The sequence behind which the stream is to be read."""
        if self._wanted.has_chains:
            return min(map(self._taken, self._wanted.types))
        return self._sequence

    def hear(self, event: AnyEvent, size: int, *, room: bool) -> bool:
        """Tell whether a live event is the next one, and take it; where one is missing, the stream is to be read.

        Args:
            event: it concerns this subscriber.
            size: its bytes, for whoever asks for what was `held`.
            room: whether it may be taken; without, it is read when there is.

        """
        meta = _meta(event)
        if self.is_live and meta.generation == self._generation and meta.sequence <= self._sequence:
            return False
        if self.is_live and room and self._follows(event, meta):
            self._sequence = self._last[event.type] = meta.sequence
            return True
        self.is_live = False
        if self._held is not None:
            self._held.append((event, size))
        return False

    def reading(self) -> None:
        """From now on hold back what is heard: the page that is being read may end before it."""
        self._held = deque(maxlen=HELD)

    def held(self) -> Iterable[tuple[AnyEvent, int]]:
        """Give, once, what was heard while the page was read, and the bytes of each."""
        held, self._held = self._held, None
        return held or ()

    def interrupt(self) -> None:
        """Read the stream before anything live, for live events may be lost."""
        self.is_live = False
        self._held = None

    def continue_in(self, page: EventPage) -> Break | None:
        """Find the place in the history that a page is of; return what is gone between the two."""
        seen, gone = (self._generation, self._sequence), None
        if self._generation != page.generation:
            gone = self._change(page, seen)
        missing = beginning(page) - self.behind
        if missing > 0:
            if gone is None and self._may_have_missed(page, beginning(page)):
                gone = Break("retention", missing, seen)
            self._has_read(beginning(page))
        return gone

    def take(self, event: AnyEvent, sequence: int) -> bool:
        """Tell whether an event of a page, which concerns this subscriber, is new, and take it."""
        if self._wanted.has_chains and sequence <= self._taken(event.type):
            return False
        self._read_up_to = max(self._read_up_to, sequence)
        self._sequence = max(self._sequence, sequence)
        return True

    def advance(self, page: EventPage) -> None:
        """Note that all of a page was taken; at the head of the stream, what is live is next."""
        self._has_read(max(self.behind, page.payloads[-1][0] if page.payloads else page.head))
        self.is_live = self.behind >= page.head

    def check(self, page: EventPage | None) -> None:
        """Compare with how things stood before all that was heard by now: was one missed that none has followed?"""
        if not self.is_live:
            return
        if page is None or page.generation != self._generation or self._may_have_missed(page, page.head):
            self.is_live = False
        else:
            self._has_read(page.head)

    def _has_read(self, sequence: int) -> None:
        self._read_up_to = max(self._read_up_to, sequence)
        self._sequence = max(self._sequence, sequence)
        self._last = {name: last for name, last in self._last.items() if last > self._read_up_to}

    def _taken(self, name: str) -> int:
        return max(self._last.get(name, 0), self._read_up_to)

    def _move(self, generation: str, sequence: int) -> None:
        self._generation = generation
        self._sequence = self._read_up_to = sequence
        self._last.clear()

    def _change(self, page: EventPage, seen: Mark) -> Break | None:
        """Go on in another generation: from where the two parted, as far as that is known."""
        if not self._generation:
            # Nothing had happened there yet.
            self._move(page.generation, 0)
            return None
        survived = dict(page.former).get(self._generation)
        if survived is None:
            self._move(page.generation, beginning(page))
            return Break("reset", None, seen)
        lost = self._sequence - survived
        self._generation, self._sequence = page.generation, min(self._sequence, survived)
        self._read_up_to = min(self._read_up_to, survived)
        self._last = {name: min(last, survived) for name, last in self._last.items()}
        return Break("failover", lost, seen) if lost > 0 else None

    def _follows(self, event: AnyEvent, meta: EventMeta) -> bool:
        """Tell whether nothing that was asked for lies between the last event and this one."""
        if meta.generation != self._generation:
            return False
        if self._wanted.session_id is not None:
            # The first event of a session names none before it: perhaps another life of it ended unheard.
            return 0 < meta.previous_of_session <= self._sequence
        if self._wanted.types:
            return meta.previous_of_type <= self._taken(event.type)
        return meta.sequence == self._sequence + 1

    def _may_have_missed(self, page: EventPage, up_to: int) -> bool:
        """Tell whether events that were asked for may lie behind what was taken, and not above a sequence."""
        wanted = self._wanted
        if wanted.session_id is not None:
            # A session that is gone leaves no sequence, but its deletion was an event.
            return self._sequence < min(up_to, page.session or page.types.get(SessionDeleted.type, 0))
        if wanted.types:
            return any(self._taken(name) < min(up_to, page.types.get(name, 0)) for name in wanted.types)
        return self._sequence < up_to


def beginning(page: EventPage) -> int:
    """Return the place behind which the history begins that may be told.

    What retention has taken before it was safe lies above the head, and comes live.
    """
    return min(page.oldest - 1, page.head)


def _meta(event: AnyEvent) -> EventMeta:
    if event.meta is None:
        raise ValueError("a published event has a place in its stream")
    return event.meta
