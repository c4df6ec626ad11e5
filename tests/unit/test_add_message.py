"""`add-message` and `add-messages`: after all others, each id once, all or none."""

import pytest
from tests.unit.given import LATER, added, created, deleted, given, message, removed, updated

from turnstream.domain.commands import AddMessage, AddMessages
from turnstream.domain.content import ImageContent, ToolCallContent
from turnstream.domain.models import ChatMessage, ChatMessageRole
from turnstream.errors import InvalidCommand, MessageAlreadyExists, SessionNotFound
from turnstream.messages import user_message


def test_should_add_a_message_to_a_session() -> None:
    session = given(created()).when(AddMessage("s", user_message("Hello, assistant!"))).session
    assert [each.role for each in session.messages] == [ChatMessageRole.USER]


def test_appends_after_all_others() -> None:
    decided = given(created(), added("m1")).when(AddMessage("s", message("m0"))).then(added("m0"))
    assert [each.id for each in decided.session.messages] == ["m1", "m0"]
    assert (decided.session.version, decided.session.updated_at) == (3, LATER)


def test_keeps_the_message_as_it_is() -> None:
    call = ToolCallContent(tool_call_id="call-1", name="search", args={"query": "x", "deep": {"snake_case": [1, None]}})
    image = ImageContent(url="https://example.com/i.jpg", detail="high", alt_text="An image")
    metadata = {"keepMyKeys": {"and_these": True}}
    whole = ChatMessage(
        id="m1",
        role=ChatMessageRole.ASSISTANT,
        content=(call, image),
        created_at=LATER,
        tool_call_id="call-0",
        tool_calls=(call,),
        metadata=metadata,
    )
    assert given(created()).when(AddMessage("s", whole)).session.messages == (whole,)


@pytest.mark.parametrize(
    "empty", [message("m1", ""), ChatMessage(id="m1", role=ChatMessageRole.USER, content=(), created_at=LATER)]
)
def test_empty_texts_and_contents_are_accepted(empty: ChatMessage) -> None:
    given(created()).when(AddMessage("s", empty)).then(added(empty))


def test_a_message_may_be_older_than_the_session() -> None:
    old = ChatMessage(id="m1", role=ChatMessageRole.USER, content=(), created_at=LATER.replace(year=2000))
    session = given(created()).when(AddMessage("s", old)).session
    assert (session.messages[0].created_at.year, session.updated_at) == (2000, LATER)


def test_an_inactive_session_accepts_messages() -> None:
    given(created(), updated(is_active=False)).when(AddMessage("s", message("m1"))).then(added("m1"))


def test_a_session_that_does_not_exist() -> None:
    given().when(AddMessage("s", message("m1"))).then_rejected(SessionNotFound("s"))
    given(created(), deleted()).when(AddMessage("s", message("m1"))).then_rejected(SessionNotFound("s"))


def test_an_id_is_used_once() -> None:
    story = given(created(), added("m1"))
    story.when(AddMessage("s", message("m1", "Another text"))).then_rejected(MessageAlreadyExists("s", "m1"))


def test_the_id_of_a_removed_message_is_free_again() -> None:
    given(created(), added("m1"), removed("m1")).when(AddMessage("s", message("m1"))).then(added("m1"))


# ── several ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_messages_are_one_version_with_an_event_each() -> None:
    decided = given(created()).when(AddMessages("s", (message("m1"), message("m2"), message("m0"))))
    decided.then(added("m1"), added("m2"), added("m0"))
    assert {event.version for event in decided.events} == {2}
    assert [each.id for each in decided.session.messages] == ["m1", "m2", "m0"]


def test_all_or_none() -> None:
    story = given(created(), added("m2"))
    story.when(AddMessages("s", (message("m1"), message("m2")))).then_rejected(MessageAlreadyExists("s", "m2"))


def test_no_messages_change_nothing() -> None:
    given(created()).when(AddMessages("s", ())).then()
    given().when(AddMessages("s", ())).then_rejected(SessionNotFound("s"))


def test_an_id_twice_in_one_command() -> None:
    with pytest.raises(InvalidCommand) as caught:
        assert given(created()).when(AddMessages("s", (message("m1"), message("m2"), message("m1")))).events
    assert caught.value.path == "$.messages[2].id"
