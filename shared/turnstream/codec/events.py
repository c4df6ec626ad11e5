"""Events to their envelopes and back: JSON, camelCase (design §6)."""

from datetime import datetime
from typing import Any

import msgspec

from turnstream.domain.events import EVENTS, AnyEvent, Event, EventMeta


class EventEnvelope(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """An event as it is published and kept: what is common to all, and `data`, the fields of its type."""

    id: str
    type: str
    session_id: str
    session_version: int
    incarnation: str
    partition: int
    generation: str
    sequence: int
    previous_of_type: int
    previous_of_session: int
    timestamp: datetime
    command_id: str
    correlation_id: str | None = None
    traceparent: str | None = None
    data: Any


class _ReadEnvelope(EventEnvelope, frozen=True, kw_only=True, rename="camel"):
    data: msgspec.Raw


class _SessionOnly(msgspec.Struct, rename="camel"):
    session_id: str


_COMMON = frozenset(Event.__struct_fields__)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_ReadEnvelope)
_session_decoder = msgspec.json.Decoder(_SessionOnly)
_own_fields = {
    name: tuple((f.name, f.encode_name) for f in msgspec.structs.fields(event) if f.name not in _COMMON)
    for name, event in EVENTS.items()
}
_data_types = {
    name: msgspec.defstruct(
        f"{event.__name__}Data",
        [(f.name, f.type) for f in msgspec.structs.fields(event) if f.name not in _COMMON],
        rename="camel",
        frozen=True,
    )
    for name, event in EVENTS.items()
}
_data_decoders = {name: msgspec.json.Decoder(data) for name, data in _data_types.items()}


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
