"""Events to their envelopes and back: JSON, camelCase (design §6)."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from turnstream.domain.events import EVENTS, AnyEvent, Event, EventMeta


class EventEnvelope(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """An event as it is published and kept: the common fields, and `data` with the fields of its type."""

    id: Annotated[
        str,
        Meta(
            description="The event's id: the id of the command that caused it, a colon, and its number among that "
            "command's events, from 0. The same when the command is applied a second time after a failure. Unique "
            "as long as command ids are: a producer that uses one again, once it is forgotten, uses its events' again."
        ),
    ]
    type: Annotated[str, Meta(description="The type of the event; it determines the fields of `data`.")]
    session_id: Annotated[str, Meta(description="The session that it happened to.")]
    session_version: Annotated[
        int,
        Meta(
            description="The session's version behind the command that caused the event. A command that changes "
            "something raises it by one, and all events of one command share it."
        ),
    ]
    incarnation: Annotated[
        str,
        Meta(
            description="Tells apart two sessions that had the same id one after the other: another text for each "
            "creation."
        ),
    ]
    partition: Annotated[int, Meta(description="The partition of the session, and so of this event, from 0.")]
    generation: Annotated[
        str,
        Meta(
            description="The history that the sequence belongs to: random, and another one when the server resumed "
            "from an earlier state. Numbers of different generations cannot be compared."
        ),
    ]
    sequence: Annotated[
        int,
        Meta(description="The event's number in its partition: from 1, without gaps, whatever its type and session."),
    ]
    previous_of_type: Annotated[
        int,
        Meta(description="The sequence of the event of the same type before it in this partition; 0: it is the first."),
    ]
    previous_of_session: Annotated[
        int,
        Meta(
            description="The sequence of the event of the same session before it; 0: it is the first since the "
            "session was created."
        ),
    ]
    timestamp: Annotated[
        datetime,
        Meta(
            description="When the command was queued, by the server's clock, but never before the session's last "
            "update: within a session times do not run backwards."
        ),
    ]
    command_id: Annotated[str, Meta(description="The id of the command that caused it.")]
    correlation_id: Annotated[
        str | None, Meta(description="The `correlationId` of that command's stream entry; absent where it had none.")
    ] = None
    traceparent: Annotated[
        str | None, Meta(description="The W3C trace context of that command's stream entry; absent where it had none.")
    ] = None
    data: Annotated[Any, Meta(description="The fields of the type.")]


class _Timed(msgspec.Struct):
    timestamp: datetime


class EventRoute(msgspec.Struct, frozen=True, gc=False):
    """The stream, type and session of an event, decoded without the rest."""

    partition: int
    type: str


class _ReadEnvelope(EventEnvelope, frozen=True, kw_only=True, rename="camel"):
    data: msgspec.Raw


class _SessionOnly(msgspec.Struct, rename="camel"):
    session_id: str


_COMMON = frozenset(Event.__struct_fields__)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_ReadEnvelope)
_timed_decoder = msgspec.json.Decoder(_Timed)
_place_decoder = msgspec.json.Decoder(EventRoute)
_session_decoder = msgspec.json.Decoder(_SessionOnly)
_own_fields = {
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
_data_decoders = {name: msgspec.json.Decoder(data) for name, data in DATA_TYPES.items()}


def encode_event(event: AnyEvent) -> bytes:
    """Return the event's envelope as JSON.

    Raises:
        ValueError: the event has no `meta`; only committed events travel.

    """
    meta = event.meta
    if meta is None:
        raise ValueError(f"{event.type} has no place in a stream yet")
    envelope = EventEnvelope(
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
        data={wire: getattr(event, name) for name, wire in _own_fields[event.type]},
    )
    return _encoder.encode(envelope)


def decode_event(payload: bytes) -> AnyEvent | None:
    """Return the event of an envelope; `None` for a type that a later version of this library has added.

    Raises:
        msgspec.DecodeError: it is not an event's envelope.

    """
    envelope = _decoder.decode(payload)
    decoder = _data_decoders.get(envelope.type)
    if decoder is None:
        return None
    data = decoder.decode(envelope.data)
    return EVENTS[envelope.type](
        session_id=envelope.session_id,
        incarnation=envelope.incarnation,
        version=envelope.session_version,
        timestamp=envelope.timestamp,
        meta=_meta(envelope),
        **{name: getattr(data, name) for name, _ in _own_fields[envelope.type]},
    )


def decode_timestamp(payload: bytes) -> datetime:
    """Return when the event of an envelope happened, of whatever type it is.

    Raises:
        msgspec.DecodeError: it is not an event's envelope.

    """
    return _timed_decoder.decode(payload).timestamp


def decode_place(payload: bytes) -> EventRoute | None:
    """Return the stream, type and session of an envelope's event; `None` if it is not an event."""
    try:
        return _place_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def session_of_event(payload: bytes) -> str:
    """Return the session of an envelope, without a look at the rest.

    Raises:
        msgspec.DecodeError: it is not an event's envelope.

    """
    return _session_decoder.decode(payload).session_id


def _meta(envelope: EventEnvelope) -> EventMeta:
    return EventMeta(
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
