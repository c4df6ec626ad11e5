"""`delete-session`: True and an event if there was a session, False and no event if there was not."""

from tests.unit.given import added, created, deleted, given

from turnstream.domain.commands import DeleteSession
from turnstream.domain.evolution import fold
from turnstream.errors import VersionConflict


def test_should_delete_a_session() -> None:
    story = given(created(), added("m1"))
    decided = story.when(DeleteSession("s")).then(deleted()).gives(output=True)
    assert decided.events[0].version == 3
    assert fold([*story.past, *decided.events]) is None


def test_should_handle_deleting_a_session_that_does_not_exist() -> None:
    given().when(DeleteSession("s")).then().gives(output=False)


def test_a_second_deletion_finds_nothing() -> None:
    given(created(), deleted()).when(DeleteSession("s")).then().gives(output=False)


def test_the_expected_version() -> None:
    given(created()).when(DeleteSession("s", expected_version=1)).then(deleted())
    given(created()).when(DeleteSession("s", expected_version=2)).then_rejected(VersionConflict("s", 2, 1))
    given().when(DeleteSession("s", expected_version=2)).then_rejected(VersionConflict("s", 2, 0))
    given().when(DeleteSession("s", expected_version=0)).then().gives(output=False)
