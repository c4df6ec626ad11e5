"""The factories of messages: a fresh id and the time in UTC, content from text or parts."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from turnstream.domain.content import ImageContent, MessageContent, TextContent
from turnstream.domain.models import ChatMessage, ChatMessageRole
from turnstream.messages import (
    Content,
    assistant_message,
    new_id,
    summary_message,
    system_message,
    tool_message,
    user_message,
)

Factory = Callable[[Content], ChatMessage]


def tool(content: Content) -> ChatMessage:
    return tool_message("tool-123", content)


FACTORIES = [
    (system_message, ChatMessageRole.SYSTEM),
    (user_message, ChatMessageRole.USER),
    (assistant_message, ChatMessageRole.ASSISTANT),
    (tool, ChatMessageRole.TOOL),
    (summary_message, ChatMessageRole.SUMMARY),
]


@pytest.mark.parametrize(("factory", "role"), FACTORIES)
def test_should_create_a_valid_message_from_text(factory: Factory, role: ChatMessageRole) -> None:
    before = datetime.now(UTC)
    made = factory("Hello")
    assert (made.role, made.content) == (role, (TextContent("Hello"),))
    assert UUID(made.id).version == 7
    assert made.created_at.tzinfo is UTC
    assert before <= made.created_at <= datetime.now(UTC)


@pytest.mark.parametrize(("factory", "role"), FACTORIES)
def test_should_create_a_valid_message_from_a_list_of_parts(factory: Factory, role: ChatMessageRole) -> None:
    parts: list[MessageContent] = [TextContent("Look:"), ImageContent(url="https://example.com/i.jpg")]
    assert factory(parts).content == tuple(parts)


@pytest.mark.parametrize("part", [TextContent("Look"), ImageContent(url="https://example.com/i.jpg")])
def test_one_part_is_enough(part: MessageContent) -> None:
    assert user_message(part).content == (part,)


@pytest.mark.parametrize("wrong", [None, 5])
def test_content_that_is_neither_text_nor_parts_is_reported(wrong: Any) -> None:  # noqa: ANN401 - no content
    with pytest.raises(TypeError, match=r"content is text or parts, not (NoneType|int)"):
        user_message(wrong)


def test_should_create_a_tool_message_for_its_call() -> None:
    assert tool_message("tool-123", "Search results").tool_call_id == "tool-123"
    assert user_message("Hello").tool_call_id is None


def test_should_create_a_summary_message_with_its_metadata() -> None:
    assert summary_message("Conversation summary").metadata == {"isSummary": True, "summarizedMessages": []}
    assert user_message("Hello").metadata is None


def test_summaries_do_not_share_their_metadata() -> None:
    first, second = summary_message("One"), summary_message("Two")
    assert first.metadata is not None
    first.metadata["summarizedMessages"].append("m1")
    assert second.metadata == {"isSummary": True, "summarizedMessages": []}


def test_an_empty_text_is_a_part() -> None:
    assert user_message("").content == (TextContent(""),)


def test_ids_are_unique_and_ordered_by_the_time_they_were_made() -> None:
    assert all(first < second for first, second in pairwise(new_id() for _ in range(1_000)))
