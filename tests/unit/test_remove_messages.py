"""`remove-messages`: by ids, all or none, or the last ones; their bodies come back while they are small enough."""

import msgspec
import pytest
from tests.unit.given import added, created, deleted, given, message, removed, updated

from turnstream.domain.commands import RemovedMessage, RemoveMessages
from turnstream.domain.models import ChatMessage
from turnstream.errors import InvalidCommand, MessageNotFound, SessionNotFound

STORY = given(created(), added("m1"), added("m2"), added("m3"))


def test_by_ids() -> None:
    decided = STORY.when(RemoveMessages("s", message_ids=("m3", "m1")))
    decided.then(removed("m3"), removed("m1")).gives((message("m3"), message("m1")))
    assert {event.version for event in decided.events} == {5}
    assert decided.session.messages == (message("m2"),)


def test_the_last_ones_come_oldest_first() -> None:
    decided = STORY.when(RemoveMessages("s", last=2))
    decided.then(removed("m2"), removed("m3")).gives((message("m2"), message("m3")))
    assert decided.session.messages == (message("m1"),)


def test_as_many_of_the_last_as_there_are() -> None:
    assert STORY.when(RemoveMessages("s", last=5_000)).session.messages == ()
    given(created()).when(RemoveMessages("s", last=1)).then().gives(())


def test_an_id_twice_is_removed_once() -> None:
    STORY.when(RemoveMessages("s", message_ids=("m1", "m1"))).then(removed("m1")).gives((message("m1"),))


def test_no_ids_change_nothing() -> None:
    STORY.when(RemoveMessages("s", message_ids=())).then().gives(())


def test_all_or_none() -> None:
    STORY.when(RemoveMessages("s", message_ids=("m1", "m9"))).then_rejected(MessageNotFound("s", "m9"))


def test_a_session_that_does_not_exist() -> None:
    given().when(RemoveMessages("s", last=1)).then_rejected(SessionNotFound("s"))
    given(created(), deleted()).when(RemoveMessages("s", last=1)).then_rejected(SessionNotFound("s"))


def test_an_inactive_session_accepts_removals() -> None:
    given(created(), added("m1"), updated(is_active=False)).when(RemoveMessages("s", last=1)).then(removed("m1"))


def test_positions_of_removed_messages_are_never_reused() -> None:
    story = given(created(), added("m1"), added("m2"), removed("m2"), removed("m1"), added("m3"))
    assert story.header is not None
    assert (story.header.message_count, story.header.next_position) == (1, 3)


@pytest.mark.parametrize("command", [RemoveMessages("s"), RemoveMessages("s", message_ids=("m1",), last=1)])
def test_either_ids_or_the_last(command: RemoveMessages) -> None:
    with pytest.raises(InvalidCommand, match="either `messageIds` or `last`"):
        assert STORY.when(command).events


# ── bodies up to 64 KiB of JSON, beyond that ids ─────────────────────────────────────────────────────────────────────


def of_size(size: int, *message_ids: str) -> list[ChatMessage]:
    """Make messages that are, as a JSON array, so many bytes together."""
    first, *others = (message(message_id, "") for message_id in message_ids)
    missing = size - len(msgspec.json.encode([first, *others]))
    return [message(first.id, "x" * missing), *others]


@pytest.mark.parametrize("message_ids", [("m1",), ("m1", "m2", "m3")])
def test_bodies_of_exactly_64_kib_come_back(message_ids: tuple[str, ...]) -> None:
    bodies = of_size(64 * 1024, *message_ids)
    story = given(created(), *map(added, bodies))
    story.when(RemoveMessages("s", last=3)).gives(tuple(bodies))


def test_of_larger_bodies_only_the_ids_come_back() -> None:
    bodies = of_size(64 * 1024 + 1, "m1", "m2")
    decided = given(created(), *map(added, bodies)).when(RemoveMessages("s", last=2))
    decided.then(removed("m1"), removed("m2")).gives((RemovedMessage("m1"), RemovedMessage("m2")))


def test_the_size_is_in_bytes_and_not_in_characters() -> None:
    large = message("m1", "é" * 40_000)
    given(created(), added(large)).when(RemoveMessages("s", last=1)).gives((RemovedMessage("m1"),))
