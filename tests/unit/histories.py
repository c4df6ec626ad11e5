"""A model of one partition's event log, with every fault that can happen to it, and of a subscriber to it."""

from collections.abc import Iterable
from itertools import count

from tests.contract.samples import AT

from turnstream.client.subscriptions.gap_detector import EventFilter, GapDetector
from turnstream.client.subscriptions.resync import HistoryGap
from turnstream.codec.events import decode_event
from turnstream.domain.events import (
    AnyEvent,
    ContextWindowCritical,
    EventMeta,
    MessageRemoved,
    SessionConfigUpdated,
    SessionDeleted,
)
from turnstream.domain.patches import SessionConfigPatch
from turnstream.domain.position import LogPosition
from turnstream.ports import EventPage

KINDS: dict[str, tuple[type[AnyEvent], dict[str, object]]] = {
    "removed": (MessageRemoved, {"message_id": "m"}),
    "critical": (ContextWindowCritical, {"utilization": 0.9, "max_context_window": 8, "crossed": True}),
    "config": (SessionConfigUpdated, {"config": SessionConfigPatch()}),
    "deleted": (SessionDeleted, {}),
}


class History:
    """The events that a partition's event log has, and those that it has had."""

    def __init__(self) -> None:
        self.generation = "g0"
        self.former: list[tuple[str, int]] = []
        self.kept: list[AnyEvent] = []
        """The events in the event log."""
        self.timeline: list[AnyEvent] = []
        """All events that survived, including trimmed ones: the event of sequence n is at n - 1."""
        self.held_back = 0
        """Events at the end that are not durable yet, in the stricter durability levels."""
        self.has_owner = True
        self._numbers = count(1)

    @property
    def sequence(self) -> int:
        return len(self.timeline)

    @property
    def head(self) -> int:
        return self.sequence - self.held_back

    def happens(self, kind: str, session_id: str) -> AnyEvent:
        """Append an event."""
        made, fields = KINDS[kind]
        meta = EventMeta(
            event_id=f"{next(self._numbers)}",
            partition=0,
            generation=self.generation,
            sequence=self.sequence + 1,
            previous_of_type=self._types().get(made.type, 0),
            previous_of_session=self._session(session_id),
            command_id="c",
        )
        common = {"session_id": session_id, "incarnation": "i", "version": 1, "timestamp": AT, "meta": meta}
        event = made(**common, **fields)  # type: ignore[arg-type]
        self.timeline.append(event)
        self.kept.append(event)
        return event

    def trim(self, left: int) -> None:
        """Trim all but the newest events."""
        self.kept = self.kept[-left:] if left else []

    def rotate(self, survived: int) -> None:
        """Continue from an older state, as after a failover."""
        self.lose(survived)
        self.is_taken()

    def is_taken(self) -> None:
        """Let a worker notice that it is on another server."""
        self.has_owner = True
        self.former.insert(0, (self.generation, self.sequence))
        self.generation = f"g{next(self._numbers)}"

    def lose(self, survived: int) -> None:
        """Fall back to an older state that no worker has taken yet."""
        while self.former and self.former[0][1] > survived:
            self.generation, _ = self.former.pop(0)
        del self.timeline[survived:]
        self.kept = [event for event in self.kept if sequence_of(event) <= survived]
        self.held_back = 0
        self.has_owner = False

    def flush(self) -> None:
        """Lose everything; a worker takes the partition at once."""
        self.lose(0)
        self.former = []
        self.generation = f"g{next(self._numbers)}"
        self.has_owner = True

    def page(self, after: int, most: int, session_id: str | None = None) -> EventPage:
        later = [event for event in self.kept if after < sequence_of(event) <= self.head]
        return EventPage(
            generation=self.generation,
            former=tuple(self.former),
            oldest=sequence_of(self.kept[0]) if self.kept else self.head + 1,
            head=self.head,
            types=self._types(),
            session=self._session(session_id) if session_id is not None else 0,
            payloads=tuple((sequence_of(event), event.to_json()) for event in later[:most]),
        )

    def _types(self) -> dict[str, int]:
        return {event.type: sequence_of(event) for event in self.timeline}

    def _session(self, session_id: str) -> int:
        last = next((event for event in reversed(self.timeline) if event.session_id == session_id), None)
        return 0 if last is None or isinstance(last, SessionDeleted) else sequence_of(last)


class Follower:
    """A subscriber to one partition, without tasks; `given` are the events and gaps that its user received."""

    def __init__(self, history: History, wanted: EventFilter, mark: LogPosition | None = None) -> None:
        self.history = history
        self.wanted = wanted
        self.start = mark or LogPosition(history.generation, history.head)
        self.detector = GapDetector(wanted, self.start)
        self.given: list[AnyEvent | HistoryGap] = []
        self.wire: list[AnyEvent] = []
        self.timeline: list[AnyEvent] = []
        """The events that had survived when the server made the last page, `page`."""
        self.page = history.page(0, 0)
        self._after: int | None = None
        self._page: EventPage | None = None

    @property
    def sequences(self) -> list[int]:
        """The sequences of the delivered events."""
        return [sequence_of(event) for event in self.given if not isinstance(event, HistoryGap)]

    @property
    def gaps(self) -> list[HistoryGap]:
        return [gap for gap in self.given if isinstance(gap, HistoryGap)]

    def publish(self, events: Iterable[AnyEvent]) -> None:
        """Send events to the follower."""
        self.wire += [event for event in events if self.wanted.in_chain(event)]

    def receive(self, *, room: bool = True) -> None:
        """Receive the next live event in flight."""
        self._receive(self.wire.pop(0), room=room)

    def reconnect(self) -> None:
        """Lose the connection and the live events in flight."""
        self.wire.clear()
        self._after = self._page = None
        self.detector.interrupt()

    def ask(self) -> None:
        """Ask for a page."""
        self.detector.start_page()
        self._after = self.detector.sequence

    @property
    def is_asking(self) -> bool:
        return self._after is not None

    @property
    def is_answered(self) -> bool:
        return self._page is not None

    def answer(self, most: int) -> None:
        """Let the server make the page."""
        assert self._after is not None
        self.page = self._page = self.history.page(self._after, most, self.wanted.session_id)
        self.timeline = list(self.history.timeline)

    def arrive(self) -> HistoryGap | None:
        """Receive the page; return the gap before it."""
        after, page = self._after, self._page
        assert after is not None
        assert page is not None
        self._after = self._page = None
        gap = self.detector.align(page)
        if gap:
            self.given.append(gap)
        if self.detector.sequence >= after:
            self._take(page)
        return gap

    def read(self, most: int = 1000) -> HistoryGap | None:
        """Read a page at once."""
        self.ask()
        self.answer(most)
        return self.arrive()

    def check(self) -> None:
        """Read the head, receive every event published before, and compare."""
        page = self.history.page(0, 0, self.wanted.session_id)
        while self.wire:
            self.receive()
        self.detector.check_head(page)

    def settle(self) -> None:
        """Complete all reads; the partition must be live then."""
        if self.is_asking:
            self.answer(3)
            self.arrive()
        for _ in range(2):
            self.check()
            for _ in range(2 * len(self.history.timeline) + 8):
                if not self.detector.is_live:
                    self.read(3)
        assert self.detector.is_live

    def _take(self, page: EventPage) -> None:
        for sequence, payload in page.payloads:
            event = decode_event(payload)
            assert event is not None
            if self.wanted.in_chain(event) and self.detector.accept_stored(event, sequence):
                self._give(event)
        self.detector.finish_page(page)
        for event, _ in self.detector.release_held():
            self._receive(event, room=True)

    def _receive(self, event: AnyEvent, *, room: bool) -> None:
        if self.detector.accept_live(event, 0, room=room):
            self._give(event)

    def _give(self, event: AnyEvent) -> None:
        if self.wanted.includes(event):
            self.given.append(event)


def sequence_of(event: AnyEvent) -> int:
    assert event.meta is not None
    return event.meta.sequence
