"""The entities (docs/contract.md, Entities): messages, sessions and what is counted about them.

Constructors take keywords, so that a later version can add fields anywhere; at most the first two fields have a
position. Sequences are tuples; constructors take lists too. Every time is timezone-aware. On the wire the names are
camelCase.
"""

from binascii import crc_hqx
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import force_setattr

from turnstream.domain.content import MessageContent, TextContent, ToolCallContent
from turnstream.domain.limits import AtMostMaxItems, WithTimezone
from turnstream.domain.prices import PriceSource
from turnstream.domain.wire_form import WireValue

SESSION_BUCKETS = 4096
"""Buckets of session ids: partitions are made of whole buckets, so that their number can be doubled."""

ContextStrategy = Literal["summarize", "truncate", "relevance", "adaptive"]
Contents = Annotated[tuple[MessageContent, ...], AtMostMaxItems]
ToolCalls = Annotated[tuple[ToolCallContent, ...], AtMostMaxItems]
Timestamp = Annotated[datetime, WithTimezone]


class ChatMessageRole(StrEnum):
    """The author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    FUNCTION = "function"
    SUMMARY = "summary"


class Entity(WireValue, frozen=True, rename="camel"):
    """An immutable value with the contract's names; absent fields are left out on the wire."""


def freeze_sequences(struct: msgspec.Struct, *fields: str) -> None:
    """Turn lists that a caller gave for these fields into tuples, so that the value is immutable and hashable."""
    for field in fields:
        value = getattr(struct, field)
        if isinstance(value, list):
            force_setattr(struct, field, tuple(value))  # pyright: ignore[reportUnknownArgumentType]


class ChatMessage(Entity, frozen=True, kw_only=True):
    """One message of a session; `tool_call_id` names the call that a tool's message answers."""

    id: str
    role: ChatMessageRole
    content: Contents
    created_at: Timestamp
    tool_call_id: str | None = None
    tool_calls: ToolCalls | None = None
    metadata: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text parts of the content, joined without a separator; "" if there is none.

        Images, tool calls and the results of tools are not text.
        """
        return "".join(part.text for part in self.content if isinstance(part, TextContent))

    def __post_init__(self) -> None:
        """Accept lists."""
        if type(self.content) is not tuple or self.tool_calls is not None:
            freeze_sequences(self, "content", "tool_calls")


class _ModelChoice(Entity, frozen=True):
    """The fields of a `SessionConfig` that have a position."""

    provider: str
    model: str


class SessionConfig(_ModelChoice, frozen=True, kw_only=True):
    """How a session talks to its model; `temperature` is any finite number from 0, `max_tokens` bounds a response."""

    system_prompt: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    context_strategy: ContextStrategy | None = None
    tools: Annotated[tuple[str, ...], AtMostMaxItems] | None = None
    provider_options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Accept lists."""
        freeze_sequences(self, "tools")


class TokenMetrics(Entity, frozen=True, kw_only=True):
    """The tokens a session has used and what they cost.

    `estimated_cost` is in USD, the sum of each call priced as it arrived; `price_source` says where the latest price
    came from. `context_utilization` is `context_tokens` (the size of the last prompt, when producers report it) or
    else the total tokens, divided by `max_context_window` (design §9).
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated_cost: float
    context_utilization: float
    max_context_window: int
    price_source: PriceSource
    context_tokens: int | None = None


class SessionHeader(Entity, frozen=True, kw_only=True):
    """A session without its messages: a worker keeps it in memory, and an append rewrites it.

    `version` counts changing commands from 1; `incarnation` tells two sessions apart that had the same id one after
    the other; `next_position` is the position of the next message, never reused.
    """

    id: str
    incarnation: str
    version: int
    config: SessionConfig
    metrics: TokenMetrics
    message_count: int
    next_position: int
    created_at: Timestamp
    updated_at: Timestamp
    is_active: bool
    metadata: dict[str, Any] | None = None


class Session(Entity, frozen=True, kw_only=True):
    """A chat session, whole, as of `version`."""

    id: str
    config: SessionConfig
    messages: tuple[ChatMessage, ...]
    metrics: TokenMetrics
    created_at: Timestamp
    updated_at: Timestamp
    is_active: bool
    version: int
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Accept lists."""
        freeze_sequences(self, "messages")


class SessionInfo(Entity, frozen=True, kw_only=True):
    """A session in a listing."""

    id: str
    provider: str
    model: str
    created_at: Timestamp
    updated_at: Timestamp
    message_count: int
    is_active: bool


class SessionPage(Entity, frozen=True, kw_only=True):
    """Some sessions, most recently updated first; `next_cursor` requests the next page, absent at the end.

    `unreadable` are the ids of sessions that belong there, too, but of which something else is stored.
    """

    sessions: tuple[SessionInfo, ...]
    next_cursor: str | None = None
    unreadable: tuple[str, ...] = ()


def session_of(header: SessionHeader, messages: tuple[ChatMessage, ...]) -> Session:
    """Join a header with its messages, oldest first."""
    return Session(
        id=header.id,
        config=header.config,
        messages=messages,
        metrics=header.metrics,
        created_at=header.created_at,
        updated_at=header.updated_at,
        is_active=header.is_active,
        version=header.version,
        metadata=header.metadata,
    )


def info_of(header: SessionHeader) -> SessionInfo:
    """Summarise a session for a listing."""
    return SessionInfo(
        id=header.id,
        provider=header.config.provider,
        model=header.config.model,
        created_at=header.created_at,
        updated_at=header.updated_at,
        message_count=header.message_count,
        is_active=header.is_active,
    )


def partition_of(session_id: str, partitions: int) -> int:
    """Return the partition of a session: CRC16-XMODEM of its id picks a bucket, the bucket a partition (design §1)."""
    return crc_hqx(session_id.encode(), 0) % SESSION_BUCKETS * partitions // SESSION_BUCKETS
