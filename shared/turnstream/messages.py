"""Factories of messages with a new id and the current time (docs/contract.md, Entities)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import uuid_utils

from turnstream.domain.content import MessageContent, TextContent
from turnstream.domain.models import ChatMessage, ChatMessageRole

Content = str | MessageContent | Sequence[MessageContent]
"""A message's content: text, a part, or several parts."""


def new_id() -> str:
    """Return a new UUIDv7 as text: unique, and ordered by the time it was made."""
    return str(uuid_utils.uuid7())


def system_message(content: Content) -> ChatMessage:
    """Make a message of the system."""
    return _message(ChatMessageRole.SYSTEM, content)


def user_message(content: Content) -> ChatMessage:
    """Make a message of the user."""
    return _message(ChatMessageRole.USER, content)


def assistant_message(content: Content) -> ChatMessage:
    """Make a message of the assistant."""
    return _message(ChatMessageRole.ASSISTANT, content)


def tool_message(tool_call_id: str, content: Content) -> ChatMessage:
    """Make a message with a tool's answer to the call of this id."""
    return _message(ChatMessageRole.TOOL, content, tool_call_id=tool_call_id)


def summary_message(content: Content) -> ChatMessage:
    """Make a message that sums others up."""
    return _message(ChatMessageRole.SUMMARY, content, metadata={"isSummary": True, "summarizedMessages": []})


def _message(
    role: ChatMessageRole,
    content: Content,
    *,
    tool_call_id: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> ChatMessage:
    return ChatMessage(
        id=new_id(),
        role=role,
        content=_parts(content),
        created_at=datetime.now(UTC),
        tool_call_id=tool_call_id,
        metadata=metadata,
    )


def _parts(content: Content) -> tuple[MessageContent, ...]:
    if isinstance(content, str):
        return (TextContent(content),)
    if isinstance(content, MessageContent):
        return (content,)
    try:
        return tuple(content)
    except TypeError:
        raise TypeError(f"A message's content is text or parts, not {type(content).__name__}") from None
