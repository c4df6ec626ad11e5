"""The entities: immutable, sequences as tuples, camelCase on the wire, times with a zone."""

import inspect
from datetime import datetime
from typing import Any

import msgspec
import pytest
from tests.unit.given import AT, FRESH, SMALL, added, created, given, message, updated

from turnstream.domain import commands, content, events, models, patches
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
CALL = ToolCallContent(tool_call_id="call-1", name="search", args={})
MESSAGE = message("m1")


def plain(value: msgspec.Struct) -> Any:  # noqa: ANN401 - JSON
    return msgspec.json.decode(msgspec.json.encode(value))


def _session(messages: Any) -> Session:  # noqa: ANN401 - a list or a tuple
    return Session(
        id="s",
        config=SMALL,
        messages=messages,
        metrics=FRESH,
        created_at=AT,
        updated_at=AT,
        is_active=True,
        version=1,
    )


@pytest.mark.parametrize(
    ("from_list", "from_tuple"),
    [
        (
            ChatMessage(id="m", role=ChatMessageRole.USER, content=[TEXT], created_at=AT),  # type: ignore[arg-type]
            ChatMessage(id="m", role=ChatMessageRole.USER, content=(TEXT,), created_at=AT),
        ),
        (
            ChatMessage(id="m", role=ChatMessageRole.USER, content=(), created_at=AT, tool_calls=[CALL]),  # type: ignore[arg-type]
            ChatMessage(id="m", role=ChatMessageRole.USER, content=(), created_at=AT, tool_calls=(CALL,)),
        ),
        (SessionConfig("p", "m", tools=["search"]), SessionConfig("p", "m", tools=("search",))),  # type: ignore[arg-type]
        (_session([MESSAGE]), _session((MESSAGE,))),
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
    kept = ChatMessage(id="m", role=ChatMessageRole.USER, content=content, created_at=AT)
    content.clear()
    assert kept.content == (TEXT,)


@pytest.mark.parametrize("value", [MESSAGE, SMALL, FRESH, given(created()).session, TEXT])
def test_entities_cannot_be_changed(value: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(value, value.__struct_fields__[0], "other")


def test_the_names_on_the_wire_are_the_specs() -> None:
    whole = Session(
        id="s",
        config=SessionConfig(
            "openai",
            "gpt-4",
            system_prompt="Be brief",
            temperature=0.5,
            max_tokens=100,
            context_strategy="truncate",
            tools=("search",),
            provider_options={"top_k": 1},
        ),
        messages=(
            ChatMessage(
                id="m",
                role=ChatMessageRole.TOOL,
                content=(TEXT,),
                created_at=AT,
                tool_call_id="call-1",
                tool_calls=(CALL,),
                metadata={"my_key": 1},
            ),
        ),
        metrics=TokenMetrics(
            prompt_tokens=1,
            completion_tokens=2,
            total_tokens=3,
            estimated_cost=0.25,
            context_utilization=0.5,
            max_context_window=8_192,
            price_source=PriceSource.SPEC,
            context_tokens=7,
        ),
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
    naive = ChatMessage(id="m", role=ChatMessageRole.USER, content=(), created_at=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    with pytest.raises(msgspec.ValidationError, match="createdAt"):
        msgspec.json.decode(msgspec.json.encode(naive), type=ChatMessage)


def test_a_session_is_its_header_and_its_messages() -> None:
    story = given(created(metadata={"a": 1}), added("m1"), updated(is_active=False))
    assert story.header is not None
    expected = Session(
        id="s",
        config=SMALL,
        messages=(message("m1"),),
        metrics=FRESH,
        created_at=AT,
        updated_at=AT,
        is_active=False,
        version=3,
        metadata={"a": 1},
    )
    assert session_of(story.header, (message("m1"),)) == expected


def test_a_header_is_summed_up_for_a_listing() -> None:
    story = given(created(), added("m1"), added("m2"))
    assert story.header is not None
    assert info_of(story.header) == SessionInfo(
        id="s", provider="openai", model="small", created_at=AT, updated_at=AT, message_count=2, is_active=True
    )


_PUBLIC = [
    value
    for module in (commands, content, events, models, patches)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
]


@pytest.mark.parametrize("struct", _PUBLIC, ids=lambda struct: struct.__name__)
def test_at_most_the_first_two_fields_have_a_position(struct: type[msgspec.Struct]) -> None:
    parameters = inspect.signature(struct).parameters.values()
    assert len([parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]) <= 2
