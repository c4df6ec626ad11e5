"""All commands, the patches of their updates, and what they return (docs/contract.md, Commands).

Example:
    ticket = await ts.send(UpdateSession(session_id, SessionPatch(is_active=False)))

"""

from msgspec import UNSET

from turnstream.client.results import CommandResult
from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    Command,
    CreateSession,
    DeleteSession,
    GetSession,
    ListSessions,
    RemovedMessage,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch, TokenMetricsPatch

__all__ = [
    "UNSET",
    "AddMessage",
    "AddMessages",
    "ChatMessagePatch",
    "Command",
    "CommandResult",
    "CreateSession",
    "DeleteSession",
    "GetSession",
    "ListSessions",
    "RemoveMessages",
    "RemovedMessage",
    "SessionConfigPatch",
    "SessionPatch",
    "TokenMetricsPatch",
    "UpdateMessage",
    "UpdateSession",
    "UpdateTokenMetrics",
]
