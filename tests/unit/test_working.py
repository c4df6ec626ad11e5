"""A session while a batch is decided on it: the written session is the fold of the batch's events."""

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from tests.unit.given import (
    CATALOGUE,
    LATER,
    SMALL,
    Happening,
    added,
    commands_on_one_session,
    created,
    deleted,
    given,
    message,
    message_updated,
    removed,
    unhurried,
    updated,
)

from turnstream.application.commands.batch import WorkingSession
from turnstream.domain.command_specs import decide
from turnstream.domain.commands import ChangingCommand, CreateSession
from turnstream.domain.events import AnyEvent
from turnstream.domain.evolution import evolve_header, evolve_messages
from turnstream.domain.handlers import Context, EventFactory
from turnstream.domain.models import ChatMessage, SessionHeader
from turnstream.domain.patches import ChatMessagePatch, apply_patch
from turnstream.errors import Rejected
from turnstream.ports import LoadedSession, SessionWrite, StoredHeader


class Shelf:
    """A stored session, its messages by id with their positions: a `MessageTarget`, and something to write to."""

    def __init__(self) -> None:
        self.header: SessionHeader | None = None
        self.bodies: dict[str, ChatMessage] = {}
        self.positions: dict[str, int] = {}

    def happen(self, event: AnyEvent) -> None:
        evolve_messages(self, self.header, event)
        self.header = evolve_header(self.header, event)

    def apply(self, write: SessionWrite) -> None:
        """Write as the port says it: cleared, removed, then put and placed."""
        self.header = write.after.header if write.after else None
        if write.cleared:
            self.clear()
        for message_id in write.removed:
            self.bodies.pop(message_id, None)
            self.positions.pop(message_id, None)
        self.bodies |= write.put
        self.positions |= write.placed

    def clear(self) -> None:
        self.bodies.clear()
        self.positions.clear()

    def append(self, message: ChatMessage, position: int) -> None:
        assert position not in self.positions.values()
        self.bodies[message.id] = message
        self.positions[message.id] = position

    def update(self, message_id: str, updates: ChatMessagePatch) -> None:
        self.bodies[message_id] = apply_patch(self.bodies[message_id], updates)

    def remove(self, message_id: str) -> None:
        del self.bodies[message_id], self.positions[message_id]

    @property
    def in_order(self) -> tuple[ChatMessage, ...]:
        return tuple(self.bodies[i] for i in sorted(self.positions, key=self.positions.__getitem__))

    def working(self) -> WorkingSession:
        """Load all that there is."""
        stored = StoredHeader(self.header, 1) if self.header else None
        return WorkingSession("s", stored, LoadedSession(stored, dict(self.bodies), self.in_order))


def shelf(*happenings: Happening) -> Shelf:
    stored = Shelf()
    for event in given(*happenings).past:
        stored.happen(event)
    return stored


def batch(session: WorkingSession, *happenings: Happening) -> SessionWrite:
    """Let this happen in one batch, one version each."""
    for number, happening in enumerate(happenings, start=2):
        header = session.header
        factory = (
            EventFactory("s", "c1", header.version + 1, LATER) if header else EventFactory("s", f"b{number}", 1, LATER)
        )
        session.apply(happening(factory), number)
    return session.finished()


@settings(unhurried, max_examples=200)
@for_all(st.lists(commands_on_one_session, max_size=6), st.lists(commands_on_one_session, max_size=10))
def test_a_written_batch_equals_the_fold_of_its_events(
    before: list[ChangingCommand], commands: list[ChangingCommand]
) -> None:
    stored, expected = Shelf(), Shelf()
    for number, command in enumerate([CreateSession(SMALL, "s"), *before]):
        _decide(stored.working(), command, f"a{number}", [stored, expected])
    session = stored.working()
    for number, command in enumerate(commands):
        _decide(session, command, f"b{number}", [expected])
    stored.apply(session.finished())
    assert (stored.header, stored.bodies, stored.positions) == (expected.header, expected.bodies, expected.positions)
    assert stored.header is None or stored.header.message_count == len(stored.bodies)


def _decide(session: WorkingSession, command: ChangingCommand, command_id: str, shelves: list[Shelf]) -> None:
    try:
        events = decide(session, command, Context(command_id, LATER, CATALOGUE)).events
    except Rejected:
        return
    for event in events:
        session.apply(event, 2)
        for each in shelves:
            each.happen(event)


def test_each_command_sees_the_effects_of_earlier_ones() -> None:
    session = shelf(created(), added("m1"), added("m2")).working()
    batch(session, added("m3"), removed("m1"), message_updated("m2", ChatMessagePatch(metadata={"a": 1})))
    assert session.message("m1") is None
    assert session.message("m2") == message("m2", a=1)
    assert session.tail(5) == (message("m2", a=1), message("m3"))
    assert session.tail(1) == (message("m3"),)


def test_an_update_of_a_stored_message_is_a_write_in_its_place() -> None:
    write = batch(shelf(created(), added("m1")).working(), message_updated("m1", ChatMessagePatch(metadata={"a": 1})))
    assert (write.put, write.placed, write.removed, write.unseen) == ({"m1": message("m1", a=1)}, {}, set(), set())


def test_a_message_that_is_added_and_updated_is_written_once() -> None:
    patch = ChatMessagePatch(metadata={"a": 1})
    write = batch(shelf(created()).working(), added("m1"), message_updated("m1", patch))
    assert (write.put, write.placed) == ({"m1": message("m1", a=1)}, {"m1": 0})


def test_a_message_that_is_added_and_removed_is_not_written() -> None:
    write = batch(shelf(created()).working(), added("m1"), removed("m1"))
    assert (write.put, write.placed, write.removed) == ({}, {}, set())


def test_a_message_that_is_removed_and_added_again_gets_a_new_place() -> None:
    stored = shelf(created(), added("m1"), added("m2"))
    stored.apply(batch(stored.working(), removed("m1"), added("m1")))
    assert stored.in_order == (message("m2"), message("m1"))
    assert stored.positions == {"m2": 1, "m1": 2}


def test_deleted_and_created_again_in_one_batch_keeps_nothing_of_the_first() -> None:
    stored = shelf(created(metadata={"a": 1}), added("m1"))
    write = batch(stored.working(), deleted(), created(), added("m2"))
    stored.apply(write)
    assert (stored.in_order, stored.positions) == ((message("m2"),), {"m2": 0})
    assert write.before is not None
    assert write.before.header.incarnation == "c1"
    assert stored.header is not None
    assert (stored.header.incarnation, stored.header.version, stored.header.metadata) == ("b3", 2, None)


def test_a_session_that_was_never_stored_leaves_nothing_when_it_is_deleted() -> None:
    write = batch(WorkingSession("s", None, None), created(), deleted())
    assert (write.before, write.after) == (None, None)


# ── what was taken for new without having looked ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("happenings", "unseen"),
    [
        ([added("m3")], {"m3"}),
        ([added("m3"), removed("m3")], {"m3"}),
        ([added("m3"), removed("m3"), added("m3")], {"m3"}),
        ([added("m3"), updated(messages=())], {"m3"}),
        ([added("m3"), deleted()], {"m3"}),
        ([removed("m1"), added("m1")], set[str]()),
        ([updated(messages=(message("m3"),)), added("m4")], set[str]()),
        ([deleted(), created(), added("m3")], set[str]()),
        ([message_updated("m1", ChatMessagePatch())], set[str]()),
    ],
)
def test_only_ids_that_the_batch_cannot_know_are_left_to_the_commit(
    happenings: list[Happening], unseen: set[str]
) -> None:
    assert batch(shelf(created(), added("m1"), added("m2")).working(), *happenings).unseen == unseen
