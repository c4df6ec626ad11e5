"""The rules that a command must keep whatever the session's state; types were checked when it was decoded.

A broken rule is `InvalidCommand` with the JSON path of the field. The client checks before it sends, the worker again.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    AnyCommand,
    CreateSession,
    ListSessions,
    ParkedCommands,
    RemoveMessages,
    SessionCommand,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.limits import MAX_ID_LENGTH, MAX_ITEMS, MAX_PAGE, MAX_TOKENS
from turnstream.domain.models import ChatMessage, SessionConfig
from turnstream.domain.patches import SessionConfigPatch, TokenMetricsPatch
from turnstream.errors import InvalidCommand

TOKEN_FIELDS = ("prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens", "context_tokens")


def check_rules(command: AnyCommand) -> None:
    """Raise `InvalidCommand` for the first rule that the command breaks."""
    if isinstance(command, SessionCommand):
        _check_id("$.sessionId", command.session_id)
        if command.expected_version is not None:
            _check_range("$.expectedVersion", command.expected_version, 0, math.inf)
    elif isinstance(command, ParkedCommands):
        _check_id("$.sessionId", command.session_id)
        _check_range("$.limit", command.limit, 1, math.inf)
    rule = _RULES.get(type(command))
    if rule:
        rule(command)


def _check_id(path: str, value: str | None) -> None:
    if value is None:
        raise InvalidCommand(path, "Object missing required field `sessionId`")
    if not value:
        raise InvalidCommand(path, "Expected an id, got an empty string")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidCommand(path, f"Expected an id of at most {MAX_ID_LENGTH} characters, got {len(value)}")


def _check_range(path: str, value: float | UnsetType | None, low: float, high: float) -> None:
    """Check a number where there is one; NaN is in no range."""
    if value is None or value is UNSET or low <= value <= high:
        return
    wanted = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
    raise InvalidCommand(path, f"Expected a number {wanted}, got {value}")


def _check_fields(path: str, struct: msgspec.Struct, names: Iterable[str], high: float = math.inf) -> None:
    for name in names:
        _check_range(f"{path}.{_camel(name)}", getattr(struct, name), 0, high)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _check_config(path: str, config: SessionConfig | SessionConfigPatch) -> None:
    _check_fields(path, config, ("temperature", "max_tokens"))


def _check_messages(path: str, messages: tuple[ChatMessage, ...]) -> None:
    seen: set[str] = set()
    for index, message in enumerate(messages):
        _check_id(f"{path}[{index}].id", message.id)
        if message.id in seen:
            raise InvalidCommand(f"{path}[{index}].id", f"Message id {message.id} is there twice")
        seen.add(message.id)


def _create_session(command: CreateSession) -> None:
    _check_config("$.config", command.config)


def _update_session(command: UpdateSession) -> None:
    updates = command.updates
    if updates.config is not UNSET:
        _check_config("$.updates.config", updates.config)
    if updates.metrics is not UNSET:
        _check_metrics(updates.metrics)
    if updates.messages is not UNSET:
        _check_messages("$.updates.messages", updates.messages)


def _check_metrics(metrics: TokenMetricsPatch) -> None:
    path = "$.updates.metrics"
    counts = ("prompt_tokens", "completion_tokens", "total_tokens", "context_tokens")
    _check_fields(path, metrics, counts, MAX_TOKENS)
    _check_fields(path, metrics, ("estimated_cost", "context_utilization"))
    _check_range(f"{path}.maxContextWindow", metrics.max_context_window, 1, MAX_TOKENS)


def _add_message(command: AddMessage) -> None:
    _check_id("$.message.id", command.message.id)


def _add_messages(command: AddMessages) -> None:
    _check_messages("$.messages", command.messages)


def _update_message(command: UpdateMessage) -> None:
    _check_id("$.messageId", command.message_id)


def _remove_messages(command: RemoveMessages) -> None:
    if (command.message_ids is None) == (command.last is None):
        raise InvalidCommand("$", "Expected either `messageIds` or `last`")
    _check_range("$.last", command.last, 1, MAX_ITEMS)
    for index, message_id in enumerate(command.message_ids or ()):
        _check_id(f"$.messageIds[{index}]", message_id)


def _update_token_metrics(command: UpdateTokenMetrics) -> None:
    _check_fields("$", command, TOKEN_FIELDS, MAX_TOKENS)
    cached = (command.cache_read_tokens or 0) + (command.cache_write_tokens or 0)
    if cached > (command.prompt_tokens or 0):
        reason = f"Cached tokens are parts of the prompt's: {cached} of {command.prompt_tokens or 0}"
        raise InvalidCommand("$.promptTokens", reason)


def _list_sessions(command: ListSessions) -> None:
    _check_range("$.limit", command.limit, 1, MAX_PAGE)


_RULES: Mapping[type[Any], Callable[[Any], None]] = {
    CreateSession: _create_session,
    UpdateSession: _update_session,
    AddMessage: _add_message,
    AddMessages: _add_messages,
    UpdateMessage: _update_message,
    RemoveMessages: _remove_messages,
    UpdateTokenMetrics: _update_token_metrics,
    ListSessions: _list_sessions,
}
