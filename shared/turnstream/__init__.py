"""Turnstream: the state of LLM chat sessions, kept as a stream of commands and events.

async with Turnstream.connect("redis://localhost:6379") as ts:
session = await ts.execute(CreateSession(SessionConfig("openai", "gpt-4")))
session = await ts.execute(AddMessage(session.id, user_message("Hello")))
"""

from msgspec import UNSET

from turnstream.application.comparing import Difference
from turnstream.application.verifying import Verification
from turnstream.catalogue import ModelCatalogue, calculate_cost, context_window_size
from turnstream.client.addressing import Trace
from turnstream.client.durable.administration import ParkedSession, PartitionLag, SubscriptionInfo
from turnstream.client.durable.retries import Retries
from turnstream.client.durable.subscription import DurableSubscription
from turnstream.client.facade import Turnstream
from turnstream.client.listening.resync import ResyncRequired
from turnstream.client.listening.subscription import EventSubscription
from turnstream.client.malformed import Malformed, MalformedInfo
from turnstream.client.parked import Parked, ParkedInfo, WaitingCommand
from turnstream.client.results import CommandResult
from turnstream.client.sessions import Sessions
from turnstream.client.tickets import Applied, Ticket
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
from turnstream.domain.evolve import fold
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
from turnstream.domain.pricing import PriceSource
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
from turnstream.worker.loop import Worker

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
    "ContextWindowCritical",
    "CreateSession",
    "DeleteSession",
    "Difference",
    "DuplicateMismatch",
    "DurableSubscription",
    "Event",
    "EventMeta",
    "EventSubscription",
    "GetSession",
    "ImageContent",
    "InvalidCommand",
    "KeyUnusable",
    "ListSessions",
    "Malformed",
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
    "Parked",
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
    "Retries",
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
    "assistant_message",
    "calculate_cost",
    "context_window_size",
    "fold",
    "summary_message",
    "system_message",
    "tool_message",
    "user_message",
]
