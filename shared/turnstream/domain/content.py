"""What a message may hold: text, images, tool calls and tool results (spec, step 1).

The parts keep the spec's own field names on the wire (`tool_call_id`, `alt_text`, `args`), unlike everything else,
which is camelCase there.
"""

from enum import StrEnum
from typing import Any, ClassVar, Literal

import msgspec


class MessageContentType(StrEnum):
    """The kinds of content part."""

    TEXT = "text"
    IMAGE = "image"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"


class TextContent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="text"):
    """A piece of text."""

    type: ClassVar[MessageContentType] = MessageContentType.TEXT
    text: str


class ImageContent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="image"):
    """An image by its URL."""

    type: ClassVar[MessageContentType] = MessageContentType.IMAGE
    url: str
    detail: Literal["low", "high", "auto"] | None = None
    alt_text: str | None = None


class ToolCallContent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="tool_call"):
    """A model's call of a tool, with the arguments it chose."""

    type: ClassVar[MessageContentType] = MessageContentType.TOOL_CALL
    tool_call_id: str
    name: str
    args: dict[str, Any]


class ToolResultContent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="tool_result"):
    """What a tool answered to a call."""

    type: ClassVar[MessageContentType] = MessageContentType.TOOL_RESULT
    tool_call_id: str
    content: str


MessageContent = TextContent | ImageContent | ToolCallContent | ToolResultContent
