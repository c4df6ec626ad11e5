"""Values that tests of all kinds use; those of one kind are in its own folder."""

from datetime import UTC, datetime
from typing import Any

from turnstream.domain.content import TextContent
from turnstream.domain.models import ChatMessage, ChatMessageRole, SessionConfig

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
"""When everything has happened that a test begins with."""

CONFIG = SessionConfig("openai", "gpt-4")


def message(message_id: str = "m1", text: str = "Hello", **metadata: Any) -> ChatMessage:  # noqa: ANN401 - free-form
    """Make a message of the user."""
    return ChatMessage(
        id=message_id, role=ChatMessageRole.USER, content=(TextContent(text),), created_at=AT, metadata=metadata or None
    )
