"""The handlers: each decides one command on a session, and makes its events (design §1).

    handler(view, command, context) -> Decision

Pure: the same view, command and context always give the same decision, so a redelivered command does too.
docs/contract.md (Commands) has the rules that they follow.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    ChangingCommand,
    CommandOutput,
    CreateSession,
    DeleteSession,
    RemovedMessage,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.content import TextContent
from turnstream.domain.events import (
    AnyEvent,
    ContextWindowCritical,
    MessageAdded,
    MessageRemoved,
    MessageUpdated,
    SessionConfigUpdated,
    SessionCreated,
    SessionDeleted,
    SessionUpdated,
    TokenMetricsUpdated,
)
from turnstream.domain.models import ChatMessage, ChatMessageRole, Session, SessionConfig, SessionHeader, TokenMetrics
from turnstream.domain.patches import apply_patch
from turnstream.domain.prices import Catalogue, TokenUsage
from turnstream.domain.token_metrics import (
    becomes_critical,
    first_metrics,
    is_critical,
    metrics_after_call,
    metrics_patch_for_model,
)
from turnstream.errors import (
    InvalidCommand,
    MessageAlreadyExists,
    MessageNotFound,
    SessionAlreadyExists,
    SessionNotFound,
    VersionConflict,
)

MAX_REMOVED_BYTES = 65_536
"""Bodies of removed messages are kept with the outcome up to this size, in bytes of JSON (design §10)."""


class SessionView(Protocol):
    """The input of a decision: one session after all earlier commands."""

    @property
    def header(self) -> SessionHeader | None:
        """The session without its messages; `None` if there is no session."""
        ...

    def message(self, message_id: str) -> ChatMessage | None:
        """Return the message with this id, if there is one."""
        ...

    def tail(self, count: int) -> tuple[ChatMessage, ...]:
        """Return the last `count` messages, oldest first, or as many as there are."""
        ...


class Context(msgspec.Struct, frozen=True, gc=False):
    """The context of a decision: the command's id, the time of its stream entry, windows and prices."""

    command_id: str
    time: datetime
    catalogue: Catalogue


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What happens; without events nothing changes."""

    events: tuple[AnyEvent, ...] = ()
    output: CommandOutput = None


class EventFactory(msgspec.Struct, frozen=True, gc=False):
    """Makes the events of one decision, with their common fields."""

    session_id: str
    incarnation: str
    version: int
    timestamp: datetime

    def create(self, event: Callable[..., AnyEvent], **data: Any) -> AnyEvent:  # noqa: ANN401 - an event's own fields
        """Make an event of this decision."""
        return event(
            session_id=self.session_id,
            incarnation=self.incarnation,
            version=self.version,
            timestamp=self.timestamp,
            **data,
        )


def next_change(header: SessionHeader, context: Context) -> EventFactory:
    """Stamp the next change of a session; its time never runs backwards."""
    return EventFactory(header.id, header.incarnation, header.version + 1, max(context.time, header.updated_at))


def require_session(view: SessionView, command: ChangingCommand) -> SessionHeader:
    """Return the header of the session that a command is about.

    Raises:
        SessionNotFound: there is no such session.
        VersionConflict: the command expects another version of it.

    """
    header = view.header
    if header is None:
        raise SessionNotFound(command.session_id or "")
    check_version(header, command)
    return header


def check_version(header: SessionHeader | None, command: ChangingCommand) -> None:
    """Raise `VersionConflict` unless the session has the version that the command expects, if it expects one."""
    expected, version = command.expected_version, header.version if header else 0
    if expected is not None and expected != version:
        raise VersionConflict(command.session_id or "", expected, version)


def create_session(view: SessionView, command: CreateSession, context: Context) -> Decision:
    """Create the session at version 1; its incarnation, and the id of a system message, derive from the command."""
    if command.session_id is None:
        raise InvalidCommand("$.sessionId", "Object missing required field `sessionId`")
    if view.header is not None:
        raise SessionAlreadyExists(command.session_id)
    check_version(None, command)
    session = Session(
        id=command.session_id,
        config=command.config,
        messages=_system_messages(command.config, context),
        metrics=first_metrics(command.config, context.catalogue, context.time),
        created_at=context.time,
        updated_at=context.time,
        is_active=True,
        version=1,
        metadata=command.metadata,
    )
    stamped = EventFactory(session.id, _incarnation(context), 1, context.time)
    return Decision((stamped.create(SessionCreated, session=session),))


def update_session(view: SessionView, command: UpdateSession, context: Context) -> Decision:
    """Change what the patch sets; a change of the model brings its window and utilisation with it."""
    header = require_session(view, command)
    stamped = next_change(header, context)
    updates = replace(command.updates, metrics=metrics_patch_for_model(header, command.updates, context.catalogue))
    events: tuple[AnyEvent, ...] = (stamped.create(SessionUpdated, updates=updates),)
    if updates.config is not UNSET:
        events += (stamped.create(SessionConfigUpdated, config=updates.config),)
    after = apply_patch(header.metrics, updates.metrics)
    if becomes_critical(header.metrics, after):
        # Such as by a model with a smaller window: the next report of tokens would no longer be the one that crossed.
        events += (_critical(stamped, after, crossed=True),)
    return Decision(events)


def delete_session(view: SessionView, command: DeleteSession, context: Context) -> Decision:
    """Delete the session; if there is none, report so and do nothing."""
    check_version(view.header, command)
    if view.header is None:
        return Decision(output=False)
    return Decision((next_change(view.header, context).create(SessionDeleted),), output=True)


def _incarnation(context: Context) -> str:
    # With the time, because a command id may be used again after it is forgotten.
    return f"{context.command_id}-{round(context.time.timestamp() * 1000)}"


def _system_messages(config: SessionConfig, context: Context) -> tuple[ChatMessage, ...]:
    if not config.system_prompt:
        return ()
    content = (TextContent(config.system_prompt),)
    return (ChatMessage(id=context.command_id, role=ChatMessageRole.SYSTEM, content=content, created_at=context.time),)


def add_message(view: SessionView, command: AddMessage, context: Context) -> Decision:
    """Append one message."""
    return _append(view, command, (command.message,), context)


def add_messages(view: SessionView, command: AddMessages, context: Context) -> Decision:
    """Append several messages, or none of them if one exists."""
    return _append(view, command, command.messages, context)


def update_message(view: SessionView, command: UpdateMessage, context: Context) -> Decision:
    """Change fields of a message."""
    header = require_session(view, command)
    if view.message(command.message_id) is None:
        raise MessageNotFound(command.session_id, command.message_id)
    change = next_change(header, context)
    return Decision((change.create(MessageUpdated, message_id=command.message_id, updates=command.updates),))


def remove_messages(view: SessionView, command: RemoveMessages, context: Context) -> Decision:
    """Remove messages, oldest first, and give them back."""
    stamped = next_change(require_session(view, command), context)
    removed = _named(view, command) if command.message_ids is not None else view.tail(command.last or 0)
    events = tuple(stamped.create(MessageRemoved, message_id=message.id) for message in removed)
    return Decision(events, output=_bodies_or_ids(removed))


def _append(
    view: SessionView,
    command: AddMessage | AddMessages,
    messages: tuple[ChatMessage, ...],
    context: Context,
) -> Decision:
    stamped = next_change(require_session(view, command), context)
    for message in messages:
        if view.message(message.id) is not None:
            raise MessageAlreadyExists(command.session_id, message.id)
    return Decision(tuple([stamped.create(MessageAdded, message=message) for message in messages]))


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


def update_token_metrics(view: SessionView, command: UpdateTokenMetrics, context: Context) -> Decision:
    """Add one call's tokens and price; omitted or zero tokens are announced as well."""
    header = require_session(view, command)
    stamped = next_change(header, context)
    usage = TokenUsage(
        prompt_tokens=command.prompt_tokens or 0,
        completion_tokens=command.completion_tokens or 0,
        cache_read_tokens=command.cache_read_tokens or 0,
        cache_write_tokens=command.cache_write_tokens or 0,
    )
    metrics = metrics_after_call(header, usage, command.context_tokens, context.catalogue, context.time)
    events: tuple[AnyEvent, ...] = (stamped.create(TokenMetricsUpdated, metrics=metrics),)
    if is_critical(metrics):
        events += (_critical(stamped, metrics, crossed=becomes_critical(header.metrics, metrics)),)
    return Decision(events)


def _critical(stamped: EventFactory, metrics: TokenMetrics, *, crossed: bool) -> AnyEvent:
    """Announce a critical utilisation."""
    return stamped.create(
        ContextWindowCritical,
        utilization=metrics.context_utilization,
        max_context_window=metrics.max_context_window,
        crossed=crossed,
    )
