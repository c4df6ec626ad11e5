"""The messages to post: for an event, for a gap in the history, and for a test of an endpoint."""

import msgspec

from turnstream import ResyncRequired
from turnstream.events import Event
from turnstream.messages import new_id
from turnstream_relay.signatures import Message


def message_of(event: Event | ResyncRequired) -> Message:
    """Return the message of an event: its envelope, as it is documented for the wire."""
    if isinstance(event, ResyncRequired):
        return _of_resync(event)
    # That a stored event has a place is part of its type only as an option.
    assert event.meta  # noqa: S101
    return Message(event.meta.event_id, event.type, event.to_json(), event.meta.traceparent)


def ping() -> Message:
    """Return a message that asks for nothing but an answer."""
    return _notice(f"ping-{new_id()}", "ping", {})


def _of_resync(resync: ResyncRequired) -> Message:
    seen, resumed = resync.seen, resync.resumed
    between = f"{seen.generation}-{seen.sequence}-{resumed.generation}-{resumed.sequence}"
    # Several sessions of a partition may have been parked at the same place.
    message_id = "-".join(("resync", str(resync.partition), resync.reason, between, resync.session_id or ""))
    data: dict[str, object] = {
        "partition": resync.partition,
        "reason": resync.reason,
        "lost": resync.lost,
        "sessionId": resync.session_id,
        "seen": {"generation": seen.generation, "sequence": seen.sequence},
        "resumed": {"generation": resumed.generation, "sequence": resumed.sequence},
    }
    return _notice(message_id, resync.type, data)


def _notice(message_id: str, kind: str, data: dict[str, object]) -> Message:
    """Return what is no event of a session, in the same shape; without a time, for each attempt sends the same."""
    return Message(message_id, kind, msgspec.json.encode({"id": message_id, "type": kind, "data": data}))
