"""`update-message`: whole fields of one message; its id and its time stay."""

from tests.unit.given import AT, added, created, given, message, message_updated, removed, updated

from turnstream.domain.commands import UpdateMessage
from turnstream.domain.content import TextContent, ToolCallContent
from turnstream.domain.models import ChatMessage, ChatMessageRole
from turnstream.domain.patches import ChatMessagePatch
from turnstream.errors import MessageNotFound, SessionNotFound

CALL = ToolCallContent(tool_call_id="call-1", name="search", args={"query": "x"})
WHOLE = ChatMessage(
    id="m1",
    role=ChatMessageRole.TOOL,
    content=(TextContent("Hello"),),
    created_at=AT,
    tool_call_id="call-1",
    tool_calls=(CALL,),
    metadata={"a": 1},
)


def test_should_update_a_message_in_a_session() -> None:
    decided = given(created(), added("m1")).when(
        UpdateMessage("s", "m1", updates=ChatMessagePatch(metadata={"edited": True}))
    )
    decided.then(message_updated("m1", ChatMessagePatch(metadata={"edited": True})))
    assert decided.session.messages == (message("m1", edited=True),)


def test_unset_leaves_and_none_clears() -> None:
    story = given(created(), added(WHOLE))
    assert story.when(UpdateMessage("s", "m1", updates=ChatMessagePatch())).session.messages == (WHOLE,)
    cleared = ChatMessagePatch(tool_call_id=None, tool_calls=None, metadata=None)
    bare = ChatMessage(id="m1", role=ChatMessageRole.TOOL, content=WHOLE.content, created_at=AT)
    assert story.when(UpdateMessage("s", "m1", updates=cleared)).session.messages == (bare,)


def test_whole_fields_are_replaced() -> None:
    patch = ChatMessagePatch(
        role=ChatMessageRole.SUMMARY,
        content=(TextContent("Other"),),
        tool_call_id="call-2",
        tool_calls=(),
        metadata={"b": 2},
    )
    changed = ChatMessage(
        id="m1",
        role=ChatMessageRole.SUMMARY,
        content=(TextContent("Other"),),
        created_at=AT,
        tool_call_id="call-2",
        tool_calls=(),
        metadata={"b": 2},
    )
    assert given(created(), added(WHOLE)).when(UpdateMessage("s", "m1", updates=patch)).session.messages == (changed,)


def test_an_updated_message_keeps_its_place() -> None:
    story = given(created(), added("m1"), added("m2"))
    session = story.when(UpdateMessage("s", "m1", updates=ChatMessagePatch(content=(TextContent("Other"),)))).session
    assert session.messages == (message("m1", "Other"), message("m2"))


def test_an_empty_patch_is_an_update() -> None:
    assert given(created(), added("m1")).when(UpdateMessage("s", "m1", updates=ChatMessagePatch())).session.version == 3


def test_an_inactive_session_accepts_updates_of_its_messages() -> None:
    story = given(created(), added("m1"), updated(is_active=False))
    assert story.when(UpdateMessage("s", "m1", updates=ChatMessagePatch(metadata={"a": 1}))).session.version == 4


def test_should_refuse_a_message_in_a_session_that_does_not_exist() -> None:
    given().when(UpdateMessage("s", "m1", updates=ChatMessagePatch())).then_rejected(SessionNotFound("s"))


def test_should_refuse_a_message_that_does_not_exist() -> None:
    missing = MessageNotFound("s", "m1")
    given(created()).when(UpdateMessage("s", "m1", updates=ChatMessagePatch())).then_rejected(missing)
    gone = given(created(), added("m1"), removed("m1"))
    gone.when(UpdateMessage("s", "m1", updates=ChatMessagePatch())).then_rejected(missing)
