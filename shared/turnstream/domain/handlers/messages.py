"""Adding, updating and removing messages (docs/contract.md, Commands; design §9)."""

import msgspec

from turnstream.domain.commands import AddMessage, AddMessages, RemovedMessage, RemoveMessages, UpdateMessage
from turnstream.domain.decision import Context, Decision, SessionView, existing, stamp
from turnstream.domain.events import MessageAdded, MessageRemoved, MessageUpdated
from turnstream.domain.models import ChatMessage
from turnstream.errors import MessageAlreadyExists, MessageNotFound

MAX_REMOVED_BYTES = 65_536
"""Bodies of removed messages are kept with the outcome up to this size, in bytes of JSON (design §10)."""


def add_message(view: SessionView, command: AddMessage, context: Context) -> Decision:
    """Append one message."""
    return _append(view, command, (command.message,), context)


def add_messages(view: SessionView, command: AddMessages, context: Context) -> Decision:
    """Append several messages, or none of them if one exists."""
    return _append(view, command, command.messages, context)


def update_message(view: SessionView, command: UpdateMessage, context: Context) -> Decision:
    """Change fields of a message."""
    header = existing(view, command)
    if view.message(command.message_id) is None:
        raise MessageNotFound(command.session_id, command.message_id)
    updated = stamp(header, context).on(MessageUpdated, message_id=command.message_id, updates=command.updates)
    return Decision((updated,))


def remove_messages(view: SessionView, command: RemoveMessages, context: Context) -> Decision:
    """Remove messages, oldest first, and give them back."""
    stamped = stamp(existing(view, command), context)
    removed = _named(view, command) if command.message_ids is not None else view.tail(command.last or 0)
    events = tuple(stamped.on(MessageRemoved, message_id=message.id) for message in removed)
    return Decision(events, output=_bodies_or_ids(removed))


def _append(
    view: SessionView,
    command: AddMessage | AddMessages,
    messages: tuple[ChatMessage, ...],
    context: Context,
) -> Decision:
    stamped = stamp(existing(view, command), context)
    for message in messages:
        if view.message(message.id) is not None:
            raise MessageAlreadyExists(command.session_id, message.id)
    return Decision(tuple([stamped.on(MessageAdded, message=message) for message in messages]))


def _named(view: SessionView, command: RemoveMessages) -> tuple[ChatMessage, ...]:
    found: dict[str, ChatMessage] = {}
    for message_id in command.message_ids or ():
        message = view.message(message_id)
        if message is None:
            raise MessageNotFound(command.session_id, message_id)
        found[message_id] = message
    return tuple(found.values())


def _bodies_or_ids(removed: tuple[ChatMessage, ...]) -> tuple[ChatMessage | RemovedMessage, ...]:
    if len(msgspec.json.encode(removed)) <= MAX_REMOVED_BYTES:
        return removed
    return tuple(RemovedMessage(message.id) for message in removed)
