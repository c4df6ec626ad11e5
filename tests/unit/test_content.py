"""Content parts: on the wire they keep the contract's own names, and `type` tells them apart."""

from typing import Any

import msgspec
import pytest

from turnstream.domain.content import (
    ImageContent,
    MessageContent,
    MessageContentType,
    TextContent,
    ToolCallContent,
    ToolResultContent,
)

PARTS: list[tuple[MessageContent, dict[str, Any]]] = [
    (TextContent("Hello world"), {"type": "text", "text": "Hello world"}),
    (
        ImageContent(url="https://example.com/image.jpg", detail="high", alt_text="Example image"),
        {"type": "image", "url": "https://example.com/image.jpg", "detail": "high", "alt_text": "Example image"},
    ),
    (ImageContent(url="https://example.com/i.jpg"), {"type": "image", "url": "https://example.com/i.jpg"}),
    (
        ToolCallContent(
            tool_call_id="123", name="search", args={"query": "example search", "camelCase": {"snake_case": [1, None]}}
        ),
        {
            "type": "tool_call",
            "tool_call_id": "123",
            "name": "search",
            "args": {"query": "example search", "camelCase": {"snake_case": [1, None]}},
        },
    ),
    (
        ToolResultContent("123", "Search results for query"),
        {"type": "tool_result", "tool_call_id": "123", "content": "Search results for query"},
    ),
]


@pytest.mark.parametrize(("part", "wire"), PARTS)
def test_should_have_the_names_of_the_spec_on_the_wire(part: MessageContent, wire: dict[str, Any]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(part)) == wire
    assert msgspec.convert(wire, MessageContent) == part


@pytest.mark.parametrize(("part", "wire"), PARTS)
def test_every_part_knows_its_type(part: MessageContent, wire: dict[str, Any]) -> None:
    assert part.type is MessageContentType(wire["type"])


def test_there_is_a_part_of_every_type() -> None:
    assert {part.type for part, _ in PARTS} == set(MessageContentType)


@pytest.mark.parametrize(
    "wire",
    [
        {"type": "video", "url": "https://example.com/v.mp4"},
        {"text": "Hello"},
        {"type": "text"},
        {"type": "text", "text": 1},
        {"type": "image", "url": "https://example.com/i.jpg", "detail": "highest"},
        {"type": "tool_call", "tool_call_id": "1", "name": "search", "args": []},
        {"type": "tool_result", "toolCallId": "1", "content": "x"},
    ],
)
def test_values_that_are_no_content_part(wire: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wire, MessageContent)


def test_unknown_fields_are_ignored() -> None:
    wire: dict[str, Any] = {"type": "text", "text": "Hello", "annotations": []}
    assert msgspec.convert(wire, MessageContent) == TextContent("Hello")
