"""The domain events (docs/contract.md, Events; design §6).

An event carries enough for `evolve` to look nothing up. Who, where and in which order is the envelope's, in `meta`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal, Self, cast

import msgspec

from turnstream.domain.event_envelope import EventEnvelope
from turnstream.domain.json_input import convert
from turnstream.domain.models import ChatMessage, Entity, Session, Timestamp, TokenMetrics
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch
from turnstream.domain.position import Position
from turnstream.domain.wire_form import variant
from turnstream.pydantic_schema import any_of, json_schema_of


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

    def to_json(self) -> bytes:
        """Return the event's envelope as JSON, with its `type`; without `meta.position`, which is the subscriber's.

        Raises:
            ValueError: the event has no `meta`; only committed events have a wire form.

        """
        return _encode(envelope_of(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the event of an envelope; called on `Event`, its class is that of the envelope's `type`.

        Raises:
            InvalidCommand: a field is missing, has the wrong type, or is nested too deep, or the type is not known or
                that of another class.

        """
        kind = variant(data, EVENTS, cls)
        envelope = convert(data, _envelope_type(kind))
        return kind(**_common_fields(envelope), **_own_fields(kind, envelope.data))

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, handler: Any) -> Any:  # noqa: ANN401 - pydantic's protocol
        """Return the schema of the envelope; of `Event` that of every envelope."""
        return any_of(EVENTS.values(), handler) if cls is Event else json_schema_of(_envelope_type(cls), handler)


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

_encode = msgspec.json.Encoder().encode
_COMMON = frozenset(Event.__struct_fields__)
_OWN_FIELDS = {
    name: tuple((f.name, f.encode_name) for f in msgspec.structs.fields(event) if f.name not in _COMMON)
    for name, event in EVENTS.items()
}
DATA_TYPES = {
    name: msgspec.defstruct(
        f"{event.__name__}Data",
        [(f.name, f.type) for f in msgspec.structs.fields(event) if f.name not in _COMMON],
        rename="camel",
        frozen=True,
    )
    for name, event in EVENTS.items()
}
"""The type of the field `data`, by the event's type."""


def envelope_of(event: Event) -> EventEnvelope:
    """Return the event in its envelope.

    Raises:
        ValueError: the event has no `meta`.

    """
    meta = event.meta
    if meta is None:
        raise ValueError(f"{event.type} has no place in a stream yet")
    return EventEnvelope(
        id=meta.event_id,
        type=event.type,
        session_id=event.session_id,
        session_version=event.version,
        incarnation=event.incarnation,
        partition=meta.partition,
        generation=meta.generation,
        sequence=meta.sequence,
        previous_of_type=meta.previous_of_type,
        previous_of_session=meta.previous_of_session,
        timestamp=event.timestamp,
        command_id=meta.command_id,
        correlation_id=meta.correlation_id,
        traceparent=meta.traceparent,
        data={wire: getattr(event, name) for name, wire in _OWN_FIELDS[event.type]},
    )


def event_of(envelope: EventEnvelope, data: msgspec.Struct) -> AnyEvent:
    """Return the event of an envelope, given the `data` of its type."""
    kind = EVENTS[envelope.type]
    return kind(**_common_fields(envelope), **_own_fields(kind, data))


def _common_fields(envelope: EventEnvelope) -> dict[str, Any]:
    meta = EventMeta(
        event_id=envelope.id,
        partition=envelope.partition,
        generation=envelope.generation,
        sequence=envelope.sequence,
        previous_of_type=envelope.previous_of_type,
        previous_of_session=envelope.previous_of_session,
        command_id=envelope.command_id,
        correlation_id=envelope.correlation_id,
        traceparent=envelope.traceparent,
    )
    return {
        "session_id": envelope.session_id,
        "incarnation": envelope.incarnation,
        "version": envelope.session_version,
        "timestamp": envelope.timestamp,
        "meta": meta,
    }


def _own_fields(kind: type[Event], data: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(data, name) for name, _ in _OWN_FIELDS[kind.type]}


@cache
def _envelope_type(kind: type[Event]) -> type[EventEnvelope]:
    """Return the envelope of one type of event."""
    envelope = msgspec.defstruct(
        kind.__name__,
        [("type", Literal[kind.type]), ("data", DATA_TYPES[kind.type])],
        bases=(EventEnvelope,),
        namespace={"__doc__": kind.__doc__},
        frozen=True,
        kw_only=True,
        rename="camel",
    )
    return cast("type[EventEnvelope]", envelope)
