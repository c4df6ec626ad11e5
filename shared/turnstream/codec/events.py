"""The JSON of events, back to events or to some of their fields (design §6); `Event.to_json` makes it."""

from datetime import datetime

import msgspec

from turnstream.domain.event_envelope import EventEnvelope
from turnstream.domain.events import DATA_TYPES, AnyEvent, event_of


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


_decoder = msgspec.json.Decoder(_ReadEnvelope)
_timed_decoder = msgspec.json.Decoder(_Timed)
_place_decoder = msgspec.json.Decoder(EventRoute)
_session_decoder = msgspec.json.Decoder(_SessionOnly)
_data_decoders = {name: msgspec.json.Decoder(data) for name, data in DATA_TYPES.items()}


def decode_event(payload: bytes) -> AnyEvent | None:
    """Return the event of an envelope; `None` for a type that a later version of this library has added.

    Raises:
        msgspec.DecodeError: it is not an event's envelope.

    """
    envelope = _decoder.decode(payload)
    decoder = _data_decoders.get(envelope.type)
    if decoder is None:
        return None
    return event_of(envelope, decoder.decode(envelope.data))


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
