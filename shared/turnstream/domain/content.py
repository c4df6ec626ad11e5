"""The content of messages: text, images, tool calls and tool results (docs/contract.md, Content parts).

The parts keep the contract's own field names on the wire (`tool_call_id`, `alt_text`, `args`), unlike everything else,
which is camelCase there.
"""

from enum import StrEnum
from typing import Any, ClassVar, Literal

from turnstream.domain.wire_form import WireValue


class MessageContentType(StrEnum):
    """The kinds of content part."""

    TEXT = "text"
    IMAGE = "image"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"


class ContentPart(WireValue, frozen=True, tag_field="type"):
    """A part of a message's content."""


class TextContent(ContentPart, frozen=True, tag="text"):
    """A piece of text."""

    type: ClassVar[MessageContentType] = MessageContentType.TEXT
    text: str


class _Located(ContentPart, frozen=True):
    """The field of an `ImageContent` that has a position."""

    url: str


class ImageContent(_Located, frozen=True, kw_only=True, tag="image"):
    """An image by its URL."""

    type: ClassVar[MessageContentType] = MessageContentType.IMAGE
    detail: Literal["low", "high", "auto"] | None = None
    alt_text: str | None = None


class ToolCallContent(ContentPart, frozen=True, kw_only=True, tag="tool_call"):
    """A model's call of a tool, with the arguments it chose."""

    type: ClassVar[MessageContentType] = MessageContentType.TOOL_CALL
    tool_call_id: str
    name: str
    args: dict[str, Any]


class ToolResultContent(ContentPart, frozen=True, tag="tool_result"):
    """The answer of a tool to a call."""

    type: ClassVar[MessageContentType] = MessageContentType.TOOL_RESULT
    tool_call_id: str
    content: str


MessageContent = TextContent | ImageContent | ToolCallContent | ToolResultContent
