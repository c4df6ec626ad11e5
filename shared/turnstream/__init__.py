"""Turnstream: the state of LLM chat sessions, kept as a stream of commands and events.

Example:
    async with Turnstream.connect("redis://localhost:6379") as ts:
        session = await ts.execute(CreateSession(SessionConfig("openai", "gpt-4")))
        ticket = await ts.send(AddMessage(session.id, user_message("Hello")))
        applied = await ticket

This module has the names of daily use. The others are in `turnstream.commands`, `turnstream.events`,
`turnstream.errors`, `turnstream.admin`, `turnstream.catalogue` and `turnstream.testing`. `turnstream.sync` is the
client without asyncio. Every other module is internal and may change.

"""

from turnstream.client.client import Turnstream
from turnstream.client.consumers.consumer import Consumer
from turnstream.client.consumers.retry_policy import RetryPolicy
from turnstream.client.replies.ticket import Applied, Ticket
from turnstream.client.sending.requests import Trace
from turnstream.client.sessions import Sessions
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.client.subscriptions.subscription import EventSubscription
from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.content import (
    ImageContent,
    MessageContent,
    MessageContentType,
    TextContent,
    ToolCallContent,
    ToolResultContent,
)
from turnstream.domain.models import (
    ChatMessage,
    ChatMessageRole,
    Session,
    SessionConfig,
    SessionInfo,
    SessionPage,
    TokenMetrics,
)
from turnstream.domain.position import Position
from turnstream.errors import (
    CommandTimeout,
    InvalidCommand,
    NotHandled,
    Rejected,
    SessionAlreadyExists,
    SessionNotFound,
    TurnstreamError,
    Unavailable,
    VersionConflict,
)
from turnstream.messages import assistant_message, summary_message, system_message, tool_message, user_message
from turnstream.pending import PendingConnection
from turnstream.settings import Secret, Settings
from turnstream.worker.worker import Worker

__all__ = [
    "AddMessage",
    "AddMessages",
    "Applied",
    "ChatMessage",
    "ChatMessageRole",
    "CommandTimeout",
    "Consumer",
    "CreateSession",
    "DeleteSession",
    "EventSubscription",
    "ImageContent",
    "InvalidCommand",
    "MessageContent",
    "MessageContentType",
    "NotHandled",
    "PendingConnection",
    "Position",
    "Rejected",
    "RemoveMessages",
    "ResyncRequired",
    "RetryPolicy",
    "Secret",
    "Session",
    "SessionAlreadyExists",
    "SessionConfig",
    "SessionInfo",
    "SessionNotFound",
    "SessionPage",
    "Sessions",
    "Settings",
    "TextContent",
    "Ticket",
    "TokenMetrics",
    "ToolCallContent",
    "ToolResultContent",
    "Trace",
    "Turnstream",
    "TurnstreamError",
    "Unavailable",
    "UpdateMessage",
    "UpdateSession",
    "UpdateTokenMetrics",
    "VersionConflict",
    "Worker",
    "assistant_message",
    "summary_message",
    "system_message",
    "tool_message",
    "user_message",
]
