"""Turnstream: the state of LLM chat sessions, kept as a stream of commands and events.

async with Turnstream.connect("redis://localhost:6379") as ts:
session = await ts.execute(CreateSession(SessionConfig("openai", "gpt-4")))
session = await ts.execute(AddMessage(session.id, user_message("Hello")))
"""

from msgspec import UNSET

from turnstream.application.queries.comparison import Difference
from turnstream.application.queries.verifier import Verification
from turnstream.catalogue import ModelCatalogue, calculate_cost, context_window_size
from turnstream.client.admin.consumers import ParkedSession, PartitionLag, SubscriptionInfo
from turnstream.client.admin.malformed_entries import MalformedInfo
from turnstream.client.admin.parked_sessions import ParkedInfo, WaitingCommand
from turnstream.client.admin.workers import WorkerInfo
from turnstream.client.client import Turnstream
from turnstream.client.consumers.consumer import Consumer
from turnstream.client.consumers.retry_policy import RetryPolicy
from turnstream.client.replies.ticket import Applied, Ticket
from turnstream.client.results import CommandResult
from turnstream.client.sending.requests import Trace
from turnstream.client.sessions import Sessions
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.client.subscriptions.subscription import EventSubscription
from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    Command,
    CreateSession,
    DeleteSession,
    GetSession,
    ListSessions,
    QueueProgress,
    RemovedMessage,
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
from turnstream.domain.events import (
    ContextWindowCritical,
    Event,
    EventMeta,
    MessageAdded,
    MessageRemoved,
    MessageUpdated,
    SessionConfigUpdated,
    SessionCreated,
    SessionDeleted,
    SessionUpdated,
    TokenMetricsUpdated,
)
from turnstream.domain.evolution import fold
from turnstream.domain.models import (
    ChatMessage,
    ChatMessageRole,
    Session,
    SessionConfig,
    SessionInfo,
    SessionPage,
    TokenMetrics,
)
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch, TokenMetricsPatch
from turnstream.domain.position import Position
from turnstream.domain.prices import PriceSource
from turnstream.errors import (
    CommandDiscarded,
    CommandExpired,
    CommandParked,
    CommandTimeout,
    ConfigurationError,
    DuplicateMismatch,
    InvalidCommand,
    KeyUnusable,
    MessageAlreadyExists,
    MessageNotFound,
    NotHandled,
    OpenedElsewhere,
    Overloaded,
    ParkedQueueFull,
    Rejected,
    ServerFull,
    SessionAlreadyExists,
    SessionGone,
    SessionNotFound,
    SessionNotParked,
    StoredDataInvalid,
    SubscriptionInUse,
    SubscriptionNotFound,
    TurnstreamError,
    Unavailable,
    VersionConflict,
)
from turnstream.messages import assistant_message, summary_message, system_message, tool_message, user_message
from turnstream.settings import Settings
from turnstream.worker.worker import Worker

__all__ = [
    "UNSET",
    "AddMessage",
    "AddMessages",
    "Applied",
    "ChatMessage",
    "ChatMessagePatch",
    "ChatMessageRole",
    "Command",
    "CommandDiscarded",
    "CommandExpired",
    "CommandParked",
    "CommandResult",
    "CommandTimeout",
    "ConfigurationError",
    "Consumer",
    "ContextWindowCritical",
    "CreateSession",
    "DeleteSession",
    "Difference",
    "DuplicateMismatch",
    "Event",
    "EventMeta",
    "EventSubscription",
    "GetSession",
    "ImageContent",
    "InvalidCommand",
    "KeyUnusable",
    "ListSessions",
    "MalformedInfo",
    "MessageAdded",
    "MessageAlreadyExists",
    "MessageContent",
    "MessageContentType",
    "MessageNotFound",
    "MessageRemoved",
    "MessageUpdated",
    "ModelCatalogue",
    "NotHandled",
    "OpenedElsewhere",
    "Overloaded",
    "ParkedInfo",
    "ParkedQueueFull",
    "ParkedSession",
    "PartitionLag",
    "Position",
    "PriceSource",
    "QueueProgress",
    "Rejected",
    "RemoveMessages",
    "RemovedMessage",
    "ResyncRequired",
    "RetryPolicy",
    "ServerFull",
    "Session",
    "SessionAlreadyExists",
    "SessionConfig",
    "SessionConfigPatch",
    "SessionConfigUpdated",
    "SessionCreated",
    "SessionDeleted",
    "SessionGone",
    "SessionInfo",
    "SessionNotFound",
    "SessionNotParked",
    "SessionPage",
    "SessionPatch",
    "SessionUpdated",
    "Sessions",
    "Settings",
    "StoredDataInvalid",
    "SubscriptionInUse",
    "SubscriptionInfo",
    "SubscriptionNotFound",
    "TextContent",
    "Ticket",
    "TokenMetrics",
    "TokenMetricsPatch",
    "TokenMetricsUpdated",
    "ToolCallContent",
    "ToolResultContent",
    "Trace",
    "Turnstream",
    "TurnstreamError",
    "Unavailable",
    "UpdateMessage",
    "UpdateSession",
    "UpdateTokenMetrics",
    "Verification",
    "VersionConflict",
    "WaitingCommand",
    "Worker",
    "WorkerInfo",
    "assistant_message",
    "calculate_cost",
    "context_window_size",
    "fold",
    "summary_message",
    "system_message",
    "tool_message",
    "user_message",
]
