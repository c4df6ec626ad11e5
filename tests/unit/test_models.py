"""The entities: immutable, sequences as tuples, camelCase on the wire, times with a zone."""

from datetime import datetime
from typing import Any

import msgspec
import pytest
from tests.unit.given import AT, FRESH, SMALL, added, created, given, message, updated

from turnstream.domain.commands import AddMessages, RemoveMessages
from turnstream.domain.content import TextContent, ToolCallContent
from turnstream.domain.models import (
    ChatMessage,
    ChatMessageRole,
    Session,
    SessionConfig,
    SessionInfo,
    TokenMetrics,
    info_of,
    session_of,
)
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch
from turnstream.domain.prices import PriceSource

TEXT = TextContent("Hello")
CALL = ToolCallContent("call-1", "search", {})
MESSAGE = message("m1")


def plain(value: msgspec.Struct) -> Any:  # noqa: ANN401 - JSON
    return msgspec.json.decode(msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("from_list", "from_tuple"),
    [
        (ChatMessage("m", ChatMessageRole.USER, [TEXT], AT), ChatMessage("m", ChatMessageRole.USER, (TEXT,), AT)),  # type: ignore[arg-type]
        (
            ChatMessage("m", ChatMessageRole.USER, (), AT, tool_calls=[CALL]),  # type: ignore[arg-type]
            ChatMessage("m", ChatMessageRole.USER, (), AT, tool_calls=(CALL,)),
        ),
        (SessionConfig("p", "m", tools=["search"]), SessionConfig("p", "m", tools=("search",))),  # type: ignore[arg-type]
        (
            Session("s", SMALL, [MESSAGE], FRESH, AT, AT, True, 1),  # type: ignore[arg-type]
            Session("s", SMALL, (MESSAGE,), FRESH, AT, AT, True, 1),
        ),
        (ChatMessagePatch(content=[TEXT], tool_calls=[CALL]), ChatMessagePatch(content=(TEXT,), tool_calls=(CALL,))),  # type: ignore[arg-type]
        (SessionConfigPatch(tools=["search"]), SessionConfigPatch(tools=("search",))),  # type: ignore[arg-type]
        (SessionPatch(messages=[MESSAGE]), SessionPatch(messages=(MESSAGE,))),  # type: ignore[arg-type]
        (AddMessages("s", [MESSAGE]), AddMessages("s", (MESSAGE,))),  # type: ignore[arg-type]
        (RemoveMessages("s", message_ids=["m1"]), RemoveMessages("s", message_ids=("m1",))),  # type: ignore[arg-type]
    ],
)
def test_constructors_take_lists_and_keep_tuples(from_list: msgspec.Struct, from_tuple: msgspec.Struct) -> None:
    assert from_list == from_tuple


def test_a_list_that_was_given_can_be_changed_without_harm() -> None:
    content: Any = [TEXT]
    kept = ChatMessage("m", ChatMessageRole.USER, content, AT)
    content.clear()
    assert kept.content == (TEXT,)


@pytest.mark.parametrize("value", [MESSAGE, SMALL, FRESH, given(created()).session, TEXT])
def test_entities_cannot_be_changed(value: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(value, value.__struct_fields__[0], "other")


def test_the_names_on_the_wire_are_the_specs() -> None:
    whole = Session(
        "s",
        SessionConfig("openai", "gpt-4", "Be brief", 0.5, 100, "truncate", ("search",), {"top_k": 1}),
        (ChatMessage("m", ChatMessageRole.TOOL, (TEXT,), AT, "call-1", (CALL,), {"my_key": 1}),),
        TokenMetrics(1, 2, 3, 0.25, 0.5, 8_192, PriceSource.SPEC, 7),
        created_at=AT,
        updated_at=AT,
        is_active=True,
        version=1,
        metadata={"my_key": {"another_key": 1}},
    )
    time = "2026-11-01T12:00:00Z"
    call: dict[str, Any] = {"type": "tool_call", "tool_call_id": "call-1", "name": "search", "args": {}}
    assert plain(whole) == {
        "id": "s",
        "config": {
            "provider": "openai",
            "model": "gpt-4",
            "systemPrompt": "Be brief",
            "temperature": 0.5,
            "maxTokens": 100,
            "contextStrategy": "truncate",
            "tools": ["search"],
            "providerOptions": {"top_k": 1},
        },
        "messages": [
            {
                "id": "m",
                "role": "tool",
                "content": [{"type": "text", "text": "Hello"}],
                "createdAt": time,
                "toolCallId": "call-1",
                "toolCalls": [call],
                "metadata": {"my_key": 1},
            },
        ],
        "metrics": {
            "promptTokens": 1,
            "completionTokens": 2,
            "totalTokens": 3,
            "estimatedCost": 0.25,
            "contextUtilization": 0.5,
            "maxContextWindow": 8_192,
            "priceSource": "spec",
            "contextTokens": 7,
        },
        "createdAt": time,
        "updatedAt": time,
        "isActive": True,
        "version": 1,
        "metadata": {"my_key": {"another_key": 1}},
    }


def test_absent_fields_are_omitted_on_the_wire() -> None:
    assert plain(SMALL) == {"provider": "openai", "model": "small"}
    assert plain(message("m1")).keys() == {"id", "role", "content", "createdAt"}


def test_should_have_the_roles_of_the_spec() -> None:
    roles = [
        msgspec.json.decode(f'"{name}"', type=ChatMessageRole)
        for name in ("system", "user", "assistant", "tool", "function", "summary")
    ]
    assert roles == list(ChatMessageRole)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'"robot"', type=ChatMessageRole)


def test_a_time_without_a_zone_is_refused() -> None:
    naive = ChatMessage("m", ChatMessageRole.USER, (), datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    with pytest.raises(msgspec.ValidationError, match="createdAt"):
        msgspec.json.decode(msgspec.json.encode(naive), type=ChatMessage)


def test_a_session_is_its_header_and_its_messages() -> None:
    story = given(created(metadata={"a": 1}), added("m1"), updated(is_active=False))
    assert story.header is not None
    expected = Session("s", SMALL, (message("m1"),), FRESH, AT, AT, False, 3, {"a": 1})
    assert session_of(story.header, (message("m1"),)) == expected


def test_a_header_is_summed_up_for_a_listing() -> None:
    story = given(created(), added("m1"), added("m2"))
    assert story.header is not None
    assert info_of(story.header) == SessionInfo("s", "openai", "small", AT, AT, 2, True)
