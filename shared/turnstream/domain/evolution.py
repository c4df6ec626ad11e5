"""`evolve`: the effect of an event on a session (design §1). The stored state is the fold of the events.

A worker applies events to headers and to the messages it writes; `fold` applies them to whole sessions. Both go
through the two functions here, `evolve_header` and `evolve_messages`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from msgspec import UNSET
from msgspec.structs import replace

from turnstream.domain.events import (
    AnyEvent,
    MessageAdded,
    MessageRemoved,
    MessageUpdated,
    SessionCreated,
    SessionDeleted,
    SessionUpdated,
    TokenMetricsUpdated,
)
from turnstream.domain.models import ChatMessage, Session, SessionHeader, session_of
from turnstream.domain.patches import ChatMessagePatch, apply_patch


class MessageTarget(Protocol):
    """Something that holds a session's messages in order."""

    def clear(self) -> None:
        """Forget all messages."""
        ...

    def append(self, message: ChatMessage, position: int) -> None:
        """Append a message at a position after all others."""
        ...

    def update(self, message_id: str, updates: ChatMessagePatch) -> None:
        """Change fields of a message."""
        ...

    def remove(self, message_id: str) -> None:
        """Take a message away."""
        ...


def evolve_header(header: SessionHeader | None, event: AnyEvent) -> SessionHeader | None:
    """Return the header after an event; `None` after a deletion."""
    change = _HEADER_CHANGES.get(type(event))
    if change and header:
        return replace(header, version=event.version, updated_at=event.timestamp, **change(header, event))
    if isinstance(event, SessionCreated):
        return _created(event)
    return None if isinstance(event, SessionDeleted) else header


def evolve_messages(target: MessageTarget, header: SessionHeader | None, event: AnyEvent) -> None:
    """Apply an event to messages, given the header *before* it, which knows the next free position."""
    position = header.next_position if header else 0
    match event:
        case MessageAdded(message=message):
            target.append(message, position)
        case MessageUpdated(message_id=message_id, updates=updates):
            target.update(message_id, updates)
        case MessageRemoved(message_id=message_id):
            target.remove(message_id)
        case SessionUpdated(updates=session_updates) if session_updates.messages is not UNSET:
            _replace_all(target, session_updates.messages, position)
        case SessionCreated(session=session):
            _replace_all(target, session.messages, 0)
        case SessionDeleted():
            target.clear()
        case _:
            pass


class Messages:
    """A session's messages in memory, by id in order: the simplest `MessageTarget`."""

    def __init__(self, messages: Iterable[ChatMessage] = ()) -> None:
        """Start with these messages, oldest first."""
        self.by_id = {message.id: message for message in messages}

    def clear(self) -> None:
        """Forget all messages."""
        self.by_id.clear()

    def append(self, message: ChatMessage, position: int) -> None:  # noqa: ARG002 - a dict keeps its order by itself
        """Append a message."""
        self.by_id[message.id] = message

    def update(self, message_id: str, updates: ChatMessagePatch) -> None:
        """Change fields of a message."""
        self.by_id[message_id] = apply_patch(self.by_id[message_id], updates)

    def remove(self, message_id: str) -> None:
        """Take a message away."""
        del self.by_id[message_id]


def fold(events: Iterable[AnyEvent]) -> Session | None:
    """Return the session that a session's events, from its creation on, lead to; `None` when it was deleted."""
    header: SessionHeader | None = None
    messages = Messages()
    for event in events:
        evolve_messages(messages, header, event)
        header = evolve_header(header, event)
    return session_of(header, tuple(messages.by_id.values())) if header else None


def _replace_all(target: MessageTarget, messages: tuple[ChatMessage, ...], position: int) -> None:
    target.clear()
    for offset, message in enumerate(messages):
        target.append(message, position + offset)


def _created(event: SessionCreated) -> SessionHeader:
    session = event.session
    return SessionHeader(
        id=session.id,
        incarnation=event.incarnation,
        version=event.version,
        config=session.config,
        metrics=session.metrics,
        message_count=len(session.messages),
        next_position=len(session.messages),
        created_at=session.created_at,
        updated_at=session.updated_at,
        is_active=session.is_active,
        metadata=session.metadata,
    )


def _added(header: SessionHeader, _event: MessageAdded) -> dict[str, Any]:
    return {"message_count": header.message_count + 1, "next_position": header.next_position + 1}


def _removed(header: SessionHeader, _event: MessageRemoved) -> dict[str, Any]:
    return {"message_count": header.message_count - 1}


def _touched(_header: SessionHeader, _event: AnyEvent) -> dict[str, Any]:
    return {}


def _metrics(_header: SessionHeader, event: TokenMetricsUpdated) -> dict[str, Any]:
    return {"metrics": event.metrics}


def _updated(header: SessionHeader, event: SessionUpdated) -> dict[str, Any]:
    updates = event.updates
    changes: dict[str, Any] = {
        "config": apply_patch(header.config, updates.config),
        "metrics": apply_patch(header.metrics, updates.metrics),
    }
    if updates.is_active is not UNSET:
        changes["is_active"] = updates.is_active
    if updates.metadata is not UNSET:
        changes["metadata"] = updates.metadata
    if updates.messages is not UNSET:
        count = len(updates.messages)
        changes |= {"message_count": count, "next_position": header.next_position + count}
    return changes


_HEADER_CHANGES: dict[type[AnyEvent], Callable[[SessionHeader, Any], dict[str, Any]]] = {
    MessageAdded: _added,
    MessageUpdated: _touched,
    MessageRemoved: _removed,
    SessionUpdated: _updated,
    TokenMetricsUpdated: _metrics,
}
