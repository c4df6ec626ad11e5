"""Following a partition: whatever becomes of the live events and of the stream, nothing is missing in silence."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace
from tests.unit.histories import KINDS, Follower, History, sequence_of

from turnstream.client.listening.following import HELD, Break, Following, Wanted
from turnstream.domain.events import AnyEvent

REMOVED, CRITICAL, CONFIG, DELETED = (KINDS[name][0].type for name in ("removed", "critical", "config", "deleted"))
FILTERS = {
    "all": Wanted((), None),
    "a type": Wanted((CRITICAL,), None),
    "the deletions": Wanted((DELETED,), None),
    "several types": Wanted((CRITICAL, REMOVED), None),
    "a session": Wanted((), "a"),
    "a session and types": Wanted((CRITICAL, DELETED), "a"),
}
SESSIONS = "abc"


# ── anything may happen ──────────────────────────────────────────────────────────────────────────────────────────────


class AnythingHappens(RuleBasedStateMachine):
    """One follower, and what it may have been given at most and must have been given at least."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.excused: set[int] = set()
        """Sequences that a Break told to be gone."""
        self.standing: dict[int, str] = {}
        """What was given and not taken back: event ids by sequence."""
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
        self.start = self.last = self.follower.start[1]
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
    def fails_over_and_nobody_notices(self, lost: int) -> None:
        """What was published before is heard before anything that comes after it."""
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
        self.follower.hear(room=room)
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
            self.follower.hear()
        self.look()

    @rule()
    def reconnects(self) -> None:
        self.follower.reconnect()

    @precondition(lambda self: not self.follower.is_asking and not self.follower.following.is_live)
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

    # what it makes of it

    def look(self) -> None:
        """Account for what was given since the last look."""
        given = self.follower.given
        for one in given[self.looked_at :]:
            if isinstance(one, Break):
                self.breaks(one)
            else:
                self.gives(one)
        self.looked_at = len(given)

    def gives(self, event: AnyEvent) -> None:
        sequence = sequence_of(event)
        assert sequence not in self.standing, "given twice"
        several = self.follower.wanted.has_chains and len(self.follower.wanted.types) > 1
        assert sequence > self.last or (several and self.dropped), "out of order"
        self.standing[sequence] = event.meta.event_id if event.meta else ""
        self.last = max(self.last, sequence)

    def breaks(self, gone: Break) -> None:
        survived = dict(self.follower.page.former).get(gone.seen[0])
        begins = min(self.follower.page.oldest - 1, self.follower.page.head)
        if gone.reason == "failover":
            assert survived is not None
            assert gone.lost == gone.seen[1] - survived > 0
            self.standing = {n: event_id for n, event_id in self.standing.items() if n <= survived}
            self.last = min(self.last, survived)
            self.excused |= set(range(begins + 1))
        elif gone.reason == "reset":
            assert gone.lost is None
            assert survived is None
            self.standing, self.start, self.last = {}, 0, 0
            self.excused = set(range(begins + 1))
        else:
            assert gone.lost
            assert gone.lost > 0
            self.excused |= set(range(begins + 1))
            assert self.may_have_lost(gone), "told of a loss where there was nothing"

    def may_have_lost(self, gone: Break) -> bool:
        """Whether anything lies behind what was seen by which a follower may know that it missed something."""
        wanted, timeline = self.follower.wanted, self.follower.timeline
        behind = timeline if wanted.has_chains else timeline[gone.seen[1] :]
        return any(wanted.concerns(event) or event.type == DELETED for event in behind)

    @invariant()
    def nothing_that_was_asked_for_is_missing_up_to_the_mark(self) -> None:
        """Whoever stores the mark goes on behind it."""
        generation, sequence = self.follower.following.mark
        if generation == self.history.generation and self.history.has_owner:
            assert set(self.missing(sequence)) <= self.excused

    def missing(self, up_to: int) -> Iterator[int]:
        """Yield what was asked for and is not given as it has happened."""
        for event in self.history.timeline[self.start : up_to]:
            if event.meta and self.follower.wanted.includes(event):
                sequence = sequence_of(event)
                if self.standing.get(sequence) != event.meta.event_id:
                    yield sequence

    def teardown(self) -> None:
        if not hasattr(self, "follower"):
            return
        self.history.held_back = 0
        if not self.history.has_owner:
            self.history.is_taken()
        self.follower.settle()
        self.look()
        assert self.follower.following.mark == (self.history.generation, self.history.sequence)
        assert set(self.missing(self.history.sequence)) <= self.excused
        wanted = {
            sequence_of(event): event.meta.event_id
            for event in self.history.timeline
            if event.meta and self.follower.wanted.includes(event) and sequence_of(event) > self.start
        }
        assert all(wanted.get(n, event_id) == event_id for n, event_id in self.standing.items()), (
            "taken back in silence"
        )


TestAnythingHappens = AnythingHappens.TestCase
TestAnythingHappens.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)


# ── each branch by itself ────────────────────────────────────────────────────────────────────────────────────────────


def follower_of(name: str, history: History | None = None) -> Follower:
    """A follower from the head of a history, which is live."""
    follower = Follower(history or History(), FILTERS[name])
    follower.read()
    assert follower.following.is_live
    return follower


def happened(follower: Follower, *events: tuple[str, str]) -> list[AnyEvent]:
    """Let events happen, and be under way to a follower."""
    made = [follower.history.happens(*event) for event in events]
    follower.publish(made)
    return made


def heard(follower: Follower) -> list[int]:
    """Hear all that is under way; return what was given by now."""
    while follower.wire:
        follower.hear()
    return follower.sequences


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_what_is_heard_in_order_is_taken_without_reading(name: str) -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of(name, history)
    happened(follower, ("removed", "a"), ("critical", "a"), ("critical", "b"), ("deleted", "a"))
    wanted = [sequence_of(e) for e in history.timeline[1:] if FILTERS[name].includes(e)]
    assert heard(follower) == wanted
    assert follower.following.is_live


@pytest.mark.parametrize("name", ["all", "a type", "a session"])
def test_a_gap_is_filled_before_what_follows(name: str) -> None:
    history = History()
    history.happens("critical", "a")
    follower = follower_of(name, history)
    happened(follower, *[("critical", "a")] * 5)
    del follower.wire[1:3]
    assert heard(follower) == [2]
    assert not follower.following.is_live
    follower.read()
    assert follower.sequences == [2, 3, 4, 5, 6]
    assert follower.following.is_live


@pytest.mark.parametrize("name", sorted(FILTERS))
@given(
    events=st.lists(
        st.tuples(st.sampled_from(["critical", "removed", "deleted"]), st.booleans()), min_size=2, max_size=6
    )
)
def test_whoever_goes_on_from_the_mark_is_given_all_that_was_lost_on_its_way(
    name: str, events: list[tuple[str, bool]]
) -> None:
    follower = follower_of(name)
    for kind, arrives in events:
        made = follower.history.happens(kind, "a")
        if arrives:
            follower.publish([made])
    taken = heard(follower)
    again = Follower(follower.history, FILTERS[name], follower.following.mark)
    again.settle()
    wanted = {sequence_of(event) for event in follower.history.timeline if FILTERS[name].includes(event)}
    assert {*taken, *again.sequences} == wanted
    if name != "several types":
        assert not set(taken) & set(again.sequences)


def test_one_of_another_type_is_found_behind_what_was_taken() -> None:
    """The chain of a type says nothing of the others: what is missing turns up later, and is given once."""
    follower = follower_of("several types")
    happened(follower, ("critical", "a"), ("removed", "a"), ("critical", "a"))
    del follower.wire[1]
    assert heard(follower) == [1, 3]
    happened(follower, ("removed", "a"))
    assert heard(follower) == [1, 3]
    follower.read(2)
    assert follower.sequences == [1, 3, 2]
    assert follower.following.mark[1] == 2, "whoever stores this gets 3 twice, and never misses one"
    follower.read()
    assert follower.sequences == [1, 3, 2, 4]
    assert follower.following.mark[1] == 4


def test_one_of_another_type_that_nothing_follows_is_found_by_a_check() -> None:
    follower = follower_of("several types")
    happened(follower, ("removed", "a"), ("critical", "a"))
    del follower.wire[0]
    follower.check()
    assert not follower.following.is_live
    follower.read()
    assert follower.sequences == [2, 1]


def test_of_several_types_a_check_spares_reading_again() -> None:
    follower = follower_of("several types")
    happened(follower, *[("critical", "a")] * 5)
    assert follower.following.behind == 0
    follower.check()
    assert follower.following.behind == 5


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_what_comes_twice_is_given_once(name: str) -> None:
    history = History()
    history.happens("critical", "a")
    follower = follower_of(name, history)
    events = happened(follower, ("critical", "a"), ("removed", "a"), ("critical", "a"))
    given = heard(follower)
    follower.publish(events)
    assert heard(follower) == given
    assert follower.following.is_live


def test_what_happens_while_a_page_is_on_its_way_is_given_behind_it() -> None:
    follower = follower_of("all")
    happened(follower, ("config", "a"))
    follower.reconnect()
    follower.ask()
    happened(follower, ("config", "a"))
    heard(follower)
    follower.answer(100)
    happened(follower, ("config", "a"))
    assert heard(follower) == []
    follower.arrive()
    assert follower.sequences == [1, 2, 3]
    assert follower.following.is_live


def test_when_too_much_happens_meanwhile_the_stream_is_read_again() -> None:
    follower = follower_of("all")
    follower.reconnect()
    follower.ask()
    follower.answer(100)
    happened(follower, *[("config", "a")] * (HELD + 1))
    heard(follower)
    follower.arrive()
    assert follower.sequences == []
    assert not follower.following.is_live
    follower.read()
    assert follower.sequences == list(range(1, HELD + 2))


def test_without_room_nothing_is_taken_until_it_is_read() -> None:
    follower = follower_of("all")
    happened(follower, ("config", "a"), ("config", "a"))
    follower.hear(room=False)
    follower.hear()
    assert follower.sequences == []
    follower.read(1)
    assert (follower.sequences, follower.following.is_live) == ([1], False)
    follower.read(1)
    assert (follower.sequences, follower.following.is_live) == ([1, 2], True)


def test_the_last_event_that_nothing_follows_is_found_by_a_check() -> None:
    for name in ("all", "a type", "several types", "a session"):
        history = History()
        history.happens("critical", "a")
        follower = follower_of(name, history)
        history.happens("critical", "a")
        follower.check()
        assert not follower.following.is_live, name


def test_a_check_moves_on_where_nothing_was_asked_for() -> None:
    follower = follower_of("a type")
    happened(follower, *[("config", "b")] * 7)
    follower.check()
    assert follower.following.is_live
    assert follower.following.mark == (follower.history.generation, 7)


# ── other histories ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("survived", "lost"), [(5, None), (3, None), (2, 1), (0, 3)])
def test_another_generation(survived: int, lost: int | None) -> None:
    """Above, at and below what was seen."""
    follower = follower_of("all")
    happened(follower, *[("config", "a")] * 5)
    del follower.wire[3:]
    assert heard(follower) == [1, 2, 3]
    follower.history.rotate(survived)
    happened(follower, ("removed", "b"))
    follower.check()
    follower.read()
    if not follower.following.is_live:
        follower.read()
    told = [Break("failover", lost, ("g0", 3))] if lost else []
    again = list(range((min(3, survived)) + 1, survived + 2))
    assert follower.breaks == told
    assert follower.sequences == [1, 2, 3, *again]
    assert follower.following.mark == (follower.history.generation, survived + 1)


def test_two_generations_later() -> None:
    follower = follower_of("all")
    happened(follower, *[("config", "a")] * 4)
    heard(follower)
    follower.history.rotate(3)
    follower.history.happens("config", "a")
    follower.history.rotate(4)
    assert follower.read() == Break("failover", 1, ("g0", 4))
    follower.read()
    assert follower.sequences == [1, 2, 3, 4, 4]


def test_a_history_that_is_not_known() -> None:
    follower = Follower(History(), FILTERS["all"], ("elsewhere", 17))
    for _ in range(3):
        follower.history.happens("config", "a")
    assert follower.read() == Break("reset", None, ("elsewhere", 17))
    assert not follower.following.is_live
    follower.read()
    assert follower.sequences == [1, 2, 3]


def test_what_had_no_history_yet_begins_with_the_first() -> None:
    follower = Follower(History(), FILTERS["all"], ("", 0))
    follower.history.happens("config", "a")
    assert follower.read() is None
    assert follower.sequences == [1]


def test_everything_is_flushed() -> None:
    follower = follower_of("a type")
    happened(follower, ("critical", "a"), ("critical", "a"))
    heard(follower)
    follower.history.flush()
    happened(follower, ("critical", "a"))
    heard(follower)
    assert follower.read() == Break("reset", None, ("g0", 2))
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
    assert follower.read() == (Break("retention", 3, ("g0", 0)) if told else None)
    assert follower.sequences == ([4] if name == "all" else [])
    assert follower.following.mark == ("g0", 4)


def test_retention_of_what_was_seen_is_no_loss() -> None:
    follower = follower_of("all")
    happened(follower, *[("config", "a")] * 3)
    heard(follower)
    follower.history.trim(0)
    follower.reconnect()
    assert follower.read() is None
    assert follower.following.is_live


def test_retention_of_what_was_taken_of_several_types_is_no_loss() -> None:
    """Although the stream is read from a place before it, for the other type."""
    follower = follower_of("several types")
    happened(follower, *[("critical", "a")] * 5)
    heard(follower)
    follower.history.trim(2)
    follower.history.happens("critical", "a")
    follower.reconnect()
    assert follower.read() is None
    assert follower.sequences == [1, 2, 3, 4, 5, 6]


def test_retention_took_all() -> None:
    follower = follower_of("all")
    follower.history.happens("config", "a")
    follower.history.happens("config", "a")
    follower.history.trim(0)
    follower.reconnect()
    assert follower.read() == Break("retention", 2, ("g0", 0))
    assert (follower.following.mark, follower.following.is_live) == (("g0", 2), True)


def test_a_failover_and_retention_are_told_as_one() -> None:
    follower = follower_of("all")
    happened(follower, *[("config", "a")] * 5)
    heard(follower)
    follower.history.rotate(4)
    for _ in range(4):
        follower.history.happens("config", "a")
    follower.history.trim(2)
    assert follower.read() == Break("failover", 1, ("g0", 5))
    assert follower.sequences == [1, 2, 3, 4, 5, 7, 8]


# ── one session ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_that_is_created_again_after_a_deletion_that_was_not_heard() -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of("a session", history)
    happened(follower, ("deleted", "a"), ("config", "a"))
    del follower.wire[0]
    assert heard(follower) == []
    follower.read()
    assert follower.sequences == [2, 3]


def test_a_deletion_that_nothing_follows_is_found_by_a_check() -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of("a session", history)
    history.happens("deleted", "a")
    follower.check()
    assert not follower.following.is_live
    follower.read()
    assert follower.sequences == [2]


def test_the_end_of_a_session_that_retention_took_is_told() -> None:
    history = History()
    history.happens("config", "a")
    follower = follower_of("a session", history)
    history.happens("deleted", "a")
    history.trim(0)
    follower.reconnect()
    assert follower.read() == Break("retention", 1, ("g0", 1))


def test_what_retention_took_of_other_sessions_is_no_loss() -> None:
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
def test_what_may_not_be_told_yet_is_waited_for(name: str) -> None:
    """The last sequences of types and sessions lie above the head then."""
    history = History()
    history.happens("critical", "a")
    follower = follower_of(name, history)
    history.happens("critical", "a")
    history.held_back = 1
    for _ in range(3):
        follower.check()
        follower.read()
        assert (follower.sequences, follower.following.is_live) == ([], True)
    history.held_back = 0
    follower.publish(history.timeline[1:])
    assert heard(follower) == [2]


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_what_is_not_safe_needs_no_reading(name: str) -> None:
    history = History()
    history.happens("critical", "a")
    follower = follower_of(name, history)
    for kind in KINDS:
        history.happens(kind, "a")
    history.held_back = len(KINDS)
    follower.check()
    assert follower.following.is_live


@pytest.mark.parametrize("name", ["all", "a type", "several types"])
def test_what_retention_took_before_it_was_safe_still_comes_live(name: str) -> None:
    follower = follower_of(name)
    for _ in range(4):
        follower.history.happens("critical", "a")
    follower.history.held_back = 4
    follower.history.trim(1)
    follower.reconnect()
    assert follower.read() is None
    follower.history.held_back = 0
    follower.publish(follower.history.timeline)
    assert heard(follower) == [1, 2, 3, 4]


def test_an_event_without_a_place_is_none_of_a_stream() -> None:
    event = History().happens("config", "a")
    bare = replace(event, meta=None)
    with pytest.raises(ValueError, match="place"):
        Following(FILTERS["all"], ("g0", 0)).hear(bare, 0, room=True)
