"""Patches: fields that may be omitted, cleared or set. Nothing here is run."""

from typing import Any, assert_type

from turnstream.commands import UNSET, ChatMessagePatch, SessionConfigPatch, SessionPatch, TokenMetricsPatch


def fields_that_can_be_cleared() -> None:
    SessionConfigPatch(system_prompt=None, temperature=None, tools=None)
    ChatMessagePatch(metadata=None, tool_calls=None, tool_call_id=None)
    SessionPatch(metadata=None)
    TokenMetricsPatch(context_tokens=None)


def fields_that_cannot_be_cleared() -> None:
    """The comments are checked: mypy reports one that is not needed."""
    SessionConfigPatch(model=None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ChatMessagePatch(content=None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    SessionPatch(is_active=None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    SessionPatch(config=None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def what_a_patch_cannot_reach() -> None:
    SessionPatch(id="other")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    ChatMessagePatch(created_at=None)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def narrowing(patch: SessionPatch) -> None:
    if patch.metadata is not UNSET:
        assert_type(patch.metadata, dict[str, Any] | None)
