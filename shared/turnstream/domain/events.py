"""The domain events (docs/contract.md, Events; design §6).

An event carries enough for `evolve` to look nothing up. Who, where and in which order is the envelope's, in `meta`.
"""

from typing import ClassVar

from turnstream.domain.models import ChatMessage, Entity, Session, Timestamp, TokenMetrics
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch
from turnstream.domain.position import Position


class EventMeta(Entity, frozen=True, kw_only=True):
    """The position of an event in the stream of its partition, and its cause (design §6).

    `previous_of_type` and `previous_of_session` are the sequences of the events before it of its type and of its
    session (0: none), so that a filtered listener can see a broken chain. `position` is for a subscriber to store:
    `ts.subscribe(start=position)` continues after this event; only a subscription knows it.
    """

    event_id: str
    partition: int
    generation: str
    sequence: int
    previous_of_type: int
    previous_of_session: int
    command_id: str
    correlation_id: str | None = None
    traceparent: str | None = None
    position: Position | None = None


class Event(Entity, frozen=True, kw_only=True):
    """Something that happened to a session; `version` is the session's after the command that caused it."""

    type: ClassVar[str]
    session_id: str
    incarnation: str
    version: int
    timestamp: Timestamp
    meta: EventMeta | None = None


class SessionCreated(Event, frozen=True, kw_only=True):
    """A session was created."""

    type: ClassVar[str] = "session-created"
    session: Session


class SessionUpdated(Event, frozen=True, kw_only=True):
    """A session was changed; `updates` also holds what follows from the change (a new model's window)."""

    type: ClassVar[str] = "session-updated"
    updates: SessionPatch


class SessionDeleted(Event, frozen=True, kw_only=True):
    """A session was deleted."""

    type: ClassVar[str] = "session-deleted"


class MessageAdded(Event, frozen=True, kw_only=True):
    """A message was appended."""

    type: ClassVar[str] = "message-added"
    message: ChatMessage


class MessageUpdated(Event, frozen=True, kw_only=True):
    """Fields of a message were changed."""

    type: ClassVar[str] = "message-updated"
    message_id: str
    updates: ChatMessagePatch


class MessageRemoved(Event, frozen=True, kw_only=True):
    """A message was removed."""

    type: ClassVar[str] = "message-removed"
    message_id: str


class TokenMetricsUpdated(Event, frozen=True, kw_only=True):
    """The token metrics were updated."""

    type: ClassVar[str] = "token-metrics-updated"
    metrics: TokenMetrics


class SessionConfigUpdated(Event, frozen=True, kw_only=True):
    """An update touched the configuration. This event only announces it: the change itself is in `SessionUpdated`."""

    type: ClassVar[str] = "session-config-updated"
    config: SessionConfigPatch


class ContextWindowCritical(Event, frozen=True, kw_only=True):
    """More than 80 % of the context window is used; `crossed` on the update that crossed the threshold."""

    type: ClassVar[str] = "context-window-critical"
    utilization: float
    max_context_window: int
    crossed: bool


AnyEvent = (
    SessionCreated
    | SessionUpdated
    | SessionDeleted
    | MessageAdded
    | MessageUpdated
    | MessageRemoved
    | TokenMetricsUpdated
    | SessionConfigUpdated
    | ContextWindowCritical
)
EVENTS: dict[str, type[AnyEvent]] = {
    event.type: event
    for event in (
        SessionCreated,
        SessionUpdated,
        SessionDeleted,
        MessageAdded,
        MessageUpdated,
        MessageRemoved,
        TokenMetricsUpdated,
        SessionConfigUpdated,
        ContextWindowCritical,
    )
}
"""Every event by its wire type."""
