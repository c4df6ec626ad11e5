"""The gap detector: whatever happens to live events and to the event log, every missing event is reported."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace
from tests.unit.histories import KINDS, Follower, History, sequence_of

from turnstream.client.subscriptions.gap_detector import MAX_HELD_EVENTS, EventFilter, GapDetector
from turnstream.client.subscriptions.resync import HistoryGap
from turnstream.domain.events import AnyEvent
from turnstream.domain.position import LogPosition

REMOVED, CRITICAL, CONFIG, DELETED = (KINDS[name][0].type for name in ("removed", "critical", "config", "deleted"))
FILTERS = {
    "all": EventFilter((), None),
    "a type": EventFilter((CRITICAL,), None),
    "the deletions": EventFilter((DELETED,), None),
    "several types": EventFilter((CRITICAL, REMOVED), None),
    "a session": EventFilter((), "a"),
    "a session and types": EventFilter((CRITICAL, DELETED), "a"),
}
SESSIONS = "abc"


# ── anything may happen ──────────────────────────────────────────────────────────────────────────────────────────────


class AnythingHappens(RuleBasedStateMachine):
    """One follower, with the events that it must and those that it may have delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.excused: set[int] = set()
        """Sequences that a `HistoryGap` reported as lost."""
        self.delivered: dict[int, str] = {}
        """The delivered events that were not rolled back: event ids by sequence."""
        self.looked_at = 0
        self.last = 0
        self.dropped = False

    @initialize(
        name=st.sampled_from(sorted(FILTERS)),
        before=st.lists(st.sampled_from(sorted(KINDS)), max_size=4),
        is_live=st.booleans(),
    )
    def starts(self, name: str, before: list[str], is_live: bool) -> None:
        for kind in before:
            self.history.happens(kind, "a")
        self.follower = Follower(self.history, FILTERS[name])
        self.start = self.last = self.follower.start.sequence
        if is_live:
            self.follower.read()

    # what happens in the partition

    @precondition(lambda self: self.history.has_owner)
    @rule(events=st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(SESSIONS)), min_size=1, max_size=6))
    def happens(self, events: list[tuple[str, str]]) -> None:
        made = [self.history.happens(*event) for event in events]
        if self.history.held_back:
            self.history.held_back += len(made)
        else:
            self.follower.publish(made)

    @precondition(lambda self: self.history.has_owner)
    @rule(events=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3))
    def happens_and_is_not_safe(self, events: list[str]) -> None:
        for kind in events:
            self.history.happens(kind, "a")
        self.history.held_back += len(events)

    @precondition(lambda self: self.history.held_back)
    @rule()
    def becomes_safe(self) -> None:
        self.follower.publish(self.history.timeline[self.history.head :])
        self.history.held_back = 0

    @rule(left=st.integers(0, 4))
    def is_trimmed(self, left: int) -> None:
        self.history.trim(left)

    @rule(lost=st.integers(0, 5))
    def fails_over(self, lost: int) -> None:
        self.follower.wire.clear()
        self.history.rotate(max(self.history.sequence - lost, 0))
        self.follower.reconnect()

    @rule(lost=st.integers(0, 3))
    def fails_over_without_a_disconnect(self, lost: int) -> None:
        """Events published before the failover are received before later ones."""
        self.history.rotate(max(self.history.sequence - lost, 0))

    @rule(lost=st.integers(0, 3))
    def falls_back(self, lost: int) -> None:
        self.history.lose(max(self.history.sequence - lost, 0))
        self.follower.reconnect()

    @precondition(lambda self: not self.history.has_owner)
    @rule()
    def is_taken(self) -> None:
        self.history.is_taken()

    @rule()
    def is_flushed(self) -> None:
        self.history.flush()

    @rule(count=st.integers(1, 4))
    def is_told_again(self, count: int) -> None:
        self.follower.publish(self.history.timeline[: self.history.head][-count:])

    # what becomes of it on its way

    @precondition(lambda self: self.follower.wire)
    @rule(room=st.booleans())
    def is_heard(self, room: bool) -> None:
        self.follower.receive(room=room)
        self.look()

    @precondition(lambda self: self.follower.wire)
    @rule(count=st.integers(1, 4))
    def is_dropped(self, count: int) -> None:
        del self.follower.wire[:count]
        self.dropped = True

    @precondition(lambda self: len(self.follower.wire) > 1)
    @rule(at=st.integers(0, 5))
    def is_heard_but_for_one(self, at: int) -> None:
        del self.follower.wire[at % len(self.follower.wire)]
        self.dropped = True
        while self.follower.wire:
            self.follower.receive()
        self.look()

    @rule()
    def reconnects(self) -> None:
        self.follower.reconnect()

    @precondition(lambda self: not self.follower.is_asking and not self.follower.detector.is_live)
    @rule()
    def asks(self) -> None:
        self.follower.ask()

    @precondition(lambda self: self.follower.is_asking and not self.follower.is_answered)
    @rule(most=st.integers(1, 5))
    def is_answered(self, most: int) -> None:
        self.follower.answer(most)

    @precondition(lambda self: self.follower.is_answered)
    @rule()
    def takes_the_page(self) -> None:
        self.follower.arrive()
        self.look()

    @rule()
    def checks(self) -> None:
        self.follower.check()
        self.look()

    # the expected result

    def look(self) -> None:
        """Account for the events and gaps delivered since the last look."""
        given = self.follower.given
        for one in given[self.looked_at :]:
            if isinstance(one, HistoryGap):
                self.gaps(one)
            else:
                self.gives(one)
        self.looked_at = len(given)

    def gives(self, event: AnyEvent) -> None:
        sequence = sequence_of(event)
        assert sequence not in self.delivered, "delivered twice"
        several = self.follower.wanted.per_type_chains and len(self.follower.wanted.types) > 1
        assert sequence > self.last or (several and self.dropped), "out of order"
        self.delivered[sequence] = event.meta.event_id if event.meta else ""
        self.last = max(self.last, sequence)

    def gaps(self, gap: HistoryGap) -> None:
        survived = dict(self.follower.page.former).get(gap.seen.generation)
        begins = min(self.follower.page.oldest - 1, self.follower.page.head)
        if gap.reason == "failover":
            assert survived is not None
            assert gap.lost == gap.seen.sequence - survived > 0
            self.delivered = {n: event_id for n, event_id in self.delivered.items() if n <= survived}
            self.last = min(self.last, survived)
            self.excused |= set(range(begins + 1))
        elif gap.reason == "reset":
            assert gap.lost is None
            assert survived is None
            self.delivered, self.start, self.last = {}, 0, 0
            self.excused = set(range(begins + 1))
        else:
            assert gap.lost
            assert gap.lost > 0
            self.excused |= set(range(begins + 1))
            assert self.may_have_lost(gap), "reported a loss although nothing was lost"

    def may_have_lost(self, gap: HistoryGap) -> bool:
        """Return whether an event after the last seen one can show the follower that it missed something."""
        wanted, timeline = self.follower.wanted, self.follower.timeline
        later = timeline if wanted.per_type_chains else timeline[gap.seen.sequence :]
        return any(wanted.in_chain(event) or event.type == DELETED for event in later)

    @invariant()
    def no_wanted_event_is_missing_up_to_the_position(self) -> None:
        """A subscriber that stores the position resumes after it."""
        generation, sequence = self.follower.detector.position
        if generation == self.history.generation and self.history.has_owner:
            assert set(self.missing(sequence)) <= self.excused

    def missing(self, up_to: int) -> Iterator[int]:
        """Yield the wanted events that are not delivered as they happened."""
        for event in self.history.timeline[self.start : up_to]:
            if event.meta and self.follower.wanted.includes(event):
                sequence = sequence_of(event)
                if self.delivered.get(sequence) != event.meta.event_id:
                    yield sequence

    def teardown(self) -> None:
        if not hasattr(self, "follower"):
            return
        self.history.held_back = 0
        if not self.history.has_owner:
            self.history.is_taken()
        self.follower.settle()
        self.look()
        assert self.follower.detector.position == (self.history.generation, self.history.sequence)
        assert set(self.missing(self.history.sequence)) <= self.excused
        wanted = {
            sequence_of(event): event.meta.event_id
            for event in self.history.timeline
            if event.meta and self.follower.wanted.includes(event) and sequence_of(event) > self.start
        }
        assert all(wanted.get(n, event_id) == event_id for n, event_id in self.delivered.items()), (
            "taken back in silence"
        )


TestAnythingHappens = AnythingHappens.TestCase
TestAnythingHappens.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)


# ── each branch alone ───────────────────────────────────────────────────────────────────────────────────────────────


def follower_of(name: str, history: History | None = None) -> Follower:
    """A follower from the head of a history, which is live."""
    follower = Follower(history or History(), FILTERS[name])
    follower.read()
    assert follower.detector.is_live
    return follower


def happened(follower: Follower, *events: tuple[str, str]) -> list[AnyEvent]:
    """Append events and publish them to a follower."""
    made = [follower.history.happens(*event) for event in events]
    follower.publish(made)
    return made


def received(follower: Follower) -> list[int]:
    """Receive all live events in flight; return the sequences delivered so far."""
    while follower.wire:
        follower.receive()
    return follower.sequences


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_live_events_in_order_are_delivered_without_reading(name: str) -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of(name, history)
    happened(follower, ("removed", "a"), ("critical", "a"), ("critical", "b"), ("deleted", "a"))
    wanted = [sequence_of(e) for e in history.timeline[1:] if FILTERS[name].includes(e)]
    assert received(follower) == wanted
    assert follower.detector.is_live


@pytest.mark.parametrize("name", ["all", "a type", "a session"])
def test_a_gap_is_filled_before_later_events(name: str) -> None:
    history = History()
    history.happens("critical", "a")
    follower = follower_of(name, history)
    happened(follower, *[("critical", "a")] * 5)
    del follower.wire[1:3]
    assert received(follower) == [2]
    assert not follower.detector.is_live
    follower.read()
    assert follower.sequences == [2, 3, 4, 5, 6]
    assert follower.detector.is_live


@pytest.mark.parametrize("name", sorted(FILTERS))
@given(
    events=st.lists(
        st.tuples(st.sampled_from(["critical", "removed", "deleted"]), st.booleans()), min_size=2, max_size=6
    )
)
def test_a_subscriber_that_resumes_receives_every_lost_event(name: str, events: list[tuple[str, bool]]) -> None:
    follower = follower_of(name)
    for kind, arrives in events:
        made = follower.history.happens(kind, "a")
        if arrives:
            follower.publish([made])
    taken = received(follower)
    again = Follower(follower.history, FILTERS[name], follower.detector.position)
    again.settle()
    wanted = {sequence_of(event) for event in follower.history.timeline if FILTERS[name].includes(event)}
    assert {*taken, *again.sequences} == wanted
    if name != "several types":
        assert not set(taken) & set(again.sequences)


def test_a_missing_event_of_another_type_is_found_before_delivered_ones() -> None:
    """The chain of a type says nothing about other types: a missing event is detected later and delivered once."""
    follower = follower_of("several types")
    happened(follower, ("critical", "a"), ("removed", "a"), ("critical", "a"))
    del follower.wire[1]
    assert received(follower) == [1, 3]
    happened(follower, ("removed", "a"))
    assert received(follower) == [1, 3]
    follower.read(2)
    assert follower.sequences == [1, 3, 2]
    assert follower.detector.position.sequence == 2, (
        "a subscriber that stores this position receives 3 twice, and misses none"
    )
    follower.read()
    assert follower.sequences == [1, 3, 2, 4]
    assert follower.detector.position.sequence == 4


def test_a_missing_last_event_of_another_type_is_found_by_a_head_check() -> None:
    follower = follower_of("several types")
    happened(follower, ("removed", "a"), ("critical", "a"))
    del follower.wire[0]
    follower.check()
    assert not follower.detector.is_live
    follower.read()
    assert follower.sequences == [2, 1]


def test_with_several_types_a_head_check_avoids_reading_again() -> None:
    follower = follower_of("several types")
    happened(follower, *[("critical", "a")] * 5)
    assert follower.detector.sequence == 0
    follower.check()
    assert follower.detector.sequence == 5


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_an_event_received_twice_is_delivered_once(name: str) -> None:
    history = History()
    history.happens("critical", "a")
    follower = follower_of(name, history)
    events = happened(follower, ("critical", "a"), ("removed", "a"), ("critical", "a"))
    given = received(follower)
    follower.publish(events)
    assert received(follower) == given
    assert follower.detector.is_live


def test_live_events_received_while_a_page_is_read_are_delivered_after_it() -> None:
    follower = follower_of("all")
    happened(follower, ("config", "a"))
    follower.reconnect()
    follower.ask()
    happened(follower, ("config", "a"))
    received(follower)
    follower.answer(100)
    happened(follower, ("config", "a"))
    assert received(follower) == []
    follower.arrive()
    assert follower.sequences == [1, 2, 3]
    assert follower.detector.is_live


def test_the_stream_is_read_again_after_more_live_events_than_are_held() -> None:
    follower = follower_of("all")
    follower.reconnect()
    follower.ask()
    follower.answer(100)
    happened(follower, *[("config", "a")] * (MAX_HELD_EVENTS + 1))
    received(follower)
    follower.arrive()
    assert follower.sequences == []
    assert not follower.detector.is_live
    follower.read()
    assert follower.sequences == list(range(1, MAX_HELD_EVENTS + 2))


def test_without_room_live_events_are_read_later() -> None:
    follower = follower_of("all")
    happened(follower, ("config", "a"), ("config", "a"))
    follower.receive(room=False)
    follower.receive()
    assert follower.sequences == []
    follower.read(1)
    assert (follower.sequences, follower.detector.is_live) == ([1], False)
    follower.read(1)
    assert (follower.sequences, follower.detector.is_live) == ([1, 2], True)


def test_a_missing_last_event_is_found_by_a_head_check() -> None:
    for name in ("all", "a type", "several types", "a session"):
        history = History()
        history.happens("critical", "a")
        follower = follower_of(name, history)
        history.happens("critical", "a")
        follower.check()
        assert not follower.detector.is_live, name


def test_a_head_check_advances_past_unwanted_events() -> None:
    follower = follower_of("a type")
    happened(follower, *[("config", "b")] * 7)
    follower.check()
    assert follower.detector.is_live
    assert follower.detector.position == (follower.history.generation, 7)


# ── other histories ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("survived", "lost"), [(5, None), (3, None), (2, 1), (0, 3)])
def test_another_generation(survived: int, lost: int | None) -> None:
    """Above, at and below what was seen."""
    follower = follower_of("all")
    happened(follower, *[("config", "a")] * 5)
    del follower.wire[3:]
    assert received(follower) == [1, 2, 3]
    follower.history.rotate(survived)
    happened(follower, ("removed", "b"))
    follower.check()
    follower.read()
    if not follower.detector.is_live:
        follower.read()
    told = [HistoryGap("failover", lost, LogPosition("g0", 3))] if lost else []
    again = list(range((min(3, survived)) + 1, survived + 2))
    assert follower.gaps == told
    assert follower.sequences == [1, 2, 3, *again]
    assert follower.detector.position == (follower.history.generation, survived + 1)


def test_two_generations_later() -> None:
    follower = follower_of("all")
    happened(follower, *[("config", "a")] * 4)
    received(follower)
    follower.history.rotate(3)
    follower.history.happens("config", "a")
    follower.history.rotate(4)
    assert follower.read() == HistoryGap("failover", 1, LogPosition("g0", 4))
    follower.read()
    assert follower.sequences == [1, 2, 3, 4, 4]


def test_an_unknown_history() -> None:
    follower = Follower(History(), FILTERS["all"], LogPosition("elsewhere", 17))
    for _ in range(3):
        follower.history.happens("config", "a")
    assert follower.read() == HistoryGap("reset", None, LogPosition("elsewhere", 17))
    assert not follower.detector.is_live
    follower.read()
    assert follower.sequences == [1, 2, 3]


def test_a_partition_without_history_starts_with_its_first_event() -> None:
    follower = Follower(History(), FILTERS["all"], LogPosition("", 0))
    follower.history.happens("config", "a")
    assert follower.read() is None
    assert follower.sequences == [1]


def test_everything_is_flushed() -> None:
    follower = follower_of("a type")
    happened(follower, ("critical", "a"), ("critical", "a"))
    received(follower)
    follower.history.flush()
    happened(follower, ("critical", "a"))
    received(follower)
    assert follower.read() == HistoryGap("reset", None, LogPosition("g0", 2))
    follower.read()
    assert follower.sequences == [1, 2, 1]


# ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "told"), [("all", True), ("several types", True), ("a type", False)])
def test_retention(name: str, told: bool) -> None:
    follower = follower_of(name)
    for kind in ("config", "removed", "config", "config"):
        follower.history.happens(kind, "b")
    follower.history.trim(1)
    follower.reconnect()
    assert follower.read() == (HistoryGap("retention", 3, LogPosition("g0", 0)) if told else None)
    assert follower.sequences == ([4] if name == "all" else [])
    assert follower.detector.position == ("g0", 4)


def test_trimmed_events_that_were_delivered_are_not_lost() -> None:
    follower = follower_of("all")
    happened(follower, *[("config", "a")] * 3)
    received(follower)
    follower.history.trim(0)
    follower.reconnect()
    assert follower.read() is None
    assert follower.detector.is_live


def test_trimmed_events_that_were_delivered_of_several_types_are_not_lost() -> None:
    """Although the stream is read from a place before it, for the other type."""
    follower = follower_of("several types")
    happened(follower, *[("critical", "a")] * 5)
    received(follower)
    follower.history.trim(2)
    follower.history.happens("critical", "a")
    follower.reconnect()
    assert follower.read() is None
    assert follower.sequences == [1, 2, 3, 4, 5, 6]


def test_all_events_are_trimmed() -> None:
    follower = follower_of("all")
    follower.history.happens("config", "a")
    follower.history.happens("config", "a")
    follower.history.trim(0)
    follower.reconnect()
    assert follower.read() == HistoryGap("retention", 2, LogPosition("g0", 0))
    assert (follower.detector.position, follower.detector.is_live) == (("g0", 2), True)


def test_a_failover_and_retention_are_reported_as_one() -> None:
    follower = follower_of("all")
    happened(follower, *[("config", "a")] * 5)
    received(follower)
    follower.history.rotate(4)
    for _ in range(4):
        follower.history.happens("config", "a")
    follower.history.trim(2)
    assert follower.read() == HistoryGap("failover", 1, LogPosition("g0", 5))
    assert follower.sequences == [1, 2, 3, 4, 5, 7, 8]


# ── one session ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_is_created_again_after_a_missed_deletion() -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of("a session", history)
    happened(follower, ("deleted", "a"), ("config", "a"))
    del follower.wire[0]
    assert received(follower) == []
    follower.read()
    assert follower.sequences == [2, 3]


def test_a_missed_deletion_is_found_by_a_head_check() -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of("a session", history)
    history.happens("deleted", "a")
    follower.check()
    assert not follower.detector.is_live
    follower.read()
    assert follower.sequences == [2]


def test_a_trimmed_deletion_is_reported() -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of("a session", history)
    history.happens("deleted", "a")
    history.trim(0)
    follower.reconnect()
    assert follower.read() == HistoryGap("retention", 1, LogPosition("g0", 1))


def test_trimmed_events_of_other_sessions_are_not_lost() -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of("a session", history)
    for _ in range(5):
        history.happens("critical", "b")
    history.trim(1)
    follower.reconnect()
    assert follower.read() is None


# ── what is not safe yet ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["all", "a type", "several types", "a session"])
def test_events_that_are_not_durable_yet_are_waited_for(name: str) -> None:
    """The last sequences of types and sessions are above the head then."""
    history = History()
    history.happens("critical", "a")
    follower = follower_of(name, history)
    history.happens("critical", "a")
    history.held_back = 1
    for _ in range(3):
        follower.check()
        follower.read()
        assert (follower.sequences, follower.detector.is_live) == ([], True)
    history.held_back = 0
    follower.publish(history.timeline[1:])
    assert received(follower) == [2]


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_events_that_are_not_durable_need_no_reading(name: str) -> None:
    history = History()
    history.happens("critical", "a")
    follower = follower_of(name, history)
    for kind in KINDS:
        history.happens(kind, "a")
    history.held_back = len(KINDS)
    follower.check()
    assert follower.detector.is_live


@pytest.mark.parametrize("name", ["all", "a type", "several types"])
def test_events_trimmed_before_they_are_durable_arrive_live(name: str) -> None:
    follower = follower_of(name)
    for _ in range(4):
        follower.history.happens("critical", "a")
    follower.history.held_back = 4
    follower.history.trim(1)
    follower.reconnect()
    assert follower.read() is None
    follower.history.held_back = 0
    follower.publish(follower.history.timeline)
    assert received(follower) == [1, 2, 3, 4]


def test_an_event_without_a_sequence_is_not_from_a_stream() -> None:
    event = History().happens("config", "a")
    bare = replace(event, meta=None)
    with pytest.raises(ValueError, match="sequence"):
        GapDetector(FILTERS["all"], LogPosition("g0", 0)).accept_live(bare, 0, room=True)
