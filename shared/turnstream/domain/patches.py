"""Partial updates: `UNSET` leaves a field as it is, `None` clears an optional one (design §9).

Neither ids nor creation times can be patched, so an update cannot lose them.
"""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from turnstream.domain.limits import AtMostMaxItems
from turnstream.domain.models import (
    ChatMessage,
    ChatMessageRole,
    Contents,
    ContextStrategy,
    Entity,
    SessionConfig,
    TokenMetrics,
    ToolCalls,
    freeze_sequences,
)
from turnstream.domain.prices import PriceSource

Patched = TypeVar("Patched", ChatMessage, SessionConfig, TokenMetrics)


class ChatMessagePatch(Entity, frozen=True, kw_only=True):
    """New values for whole fields of a message."""

    role: ChatMessageRole | UnsetType = UNSET
    content: Contents | UnsetType = UNSET
    tool_call_id: str | None | UnsetType = UNSET
    tool_calls: ToolCalls | None | UnsetType = UNSET
    metadata: dict[str, Any] | None | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Accept lists."""
        freeze_sequences(self, "content", "tool_calls")


class SessionConfigPatch(Entity, frozen=True, kw_only=True):
    """New values for fields of a session's configuration."""

    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    system_prompt: str | None | UnsetType = UNSET
    temperature: float | None | UnsetType = UNSET
    max_tokens: int | None | UnsetType = UNSET
    context_strategy: ContextStrategy | None | UnsetType = UNSET
    tools: Annotated[tuple[str, ...], AtMostMaxItems] | None | UnsetType = UNSET
    provider_options: dict[str, Any] | None | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Accept lists."""
        freeze_sequences(self, "tools")


class TokenMetricsPatch(Entity, frozen=True, kw_only=True):
    """New values for token metrics, as they are: nothing is added up."""

    prompt_tokens: int | UnsetType = UNSET
    completion_tokens: int | UnsetType = UNSET
    total_tokens: int | UnsetType = UNSET
    estimated_cost: float | UnsetType = UNSET
    context_utilization: float | UnsetType = UNSET
    max_context_window: int | UnsetType = UNSET
    price_source: PriceSource | UnsetType = UNSET
    context_tokens: int | None | UnsetType = UNSET


class SessionPatch(Entity, frozen=True, kw_only=True):
    """What to change of a session: config and metrics merge one level deep, messages and metadata are replaced."""

    config: SessionConfigPatch | UnsetType = UNSET
    metrics: TokenMetricsPatch | UnsetType = UNSET
    messages: Annotated[tuple[ChatMessage, ...], AtMostMaxItems] | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    metadata: dict[str, Any] | None | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Accept lists."""
        freeze_sequences(self, "messages")


def set_fields(patch: msgspec.Struct) -> dict[str, Any]:
    """Return the fields that a patch sets, by name."""
    values = ((name, getattr(patch, name)) for name in patch.__struct_fields__)
    return {name: value for name, value in values if value is not UNSET}


def apply_patch(value: Patched, patch: msgspec.Struct | UnsetType) -> Patched:
    """Return the value with the fields that the patch sets; the patch's fields are among the value's."""
    return value if patch is UNSET else msgspec.structs.replace(value, **set_fields(patch))
