"""Creating, updating and deleting sessions (docs/contract.md, Commands)."""

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from turnstream.domain.commands import CreateSession, DeleteSession, UpdateSession
from turnstream.domain.content import TextContent
from turnstream.domain.decision import Context, Decision, EventFactory, SessionView, check_version, existing, stamp
from turnstream.domain.events import AnyEvent, SessionConfigUpdated, SessionCreated, SessionDeleted, SessionUpdated
from turnstream.domain.handlers.metrics import critical, crosses, utilization
from turnstream.domain.models import (
    ChatMessage,
    ChatMessageRole,
    Session,
    SessionConfig,
    SessionHeader,
    TokenMetrics,
)
from turnstream.domain.patches import SessionPatch, TokenMetricsPatch, apply_patch
from turnstream.domain.prices import TokenUsage
from turnstream.errors import InvalidCommand, SessionAlreadyExists


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
        metrics=_fresh_metrics(command.config, context),
        created_at=context.time,
        updated_at=context.time,
        is_active=True,
        version=1,
        metadata=command.metadata,
    )
    stamped = EventFactory(session.id, _incarnation(context), 1, context.time)
    return Decision((stamped.on(SessionCreated, session=session),))


def update_session(view: SessionView, command: UpdateSession, context: Context) -> Decision:
    """Change what the patch sets; a change of the model brings its window and utilisation with it."""
    header = existing(view, command)
    stamped = stamp(header, context)
    updates = replace(command.updates, metrics=_refreshed_metrics(header, command.updates, context))
    events: tuple[AnyEvent, ...] = (stamped.on(SessionUpdated, updates=updates),)
    if updates.config is not UNSET:
        events += (stamped.on(SessionConfigUpdated, config=updates.config),)
    after = apply_patch(header.metrics, updates.metrics)
    if crosses(header.metrics, after):
        # Such as by a model with a smaller window: the next report of tokens would no longer be the one that crossed.
        events += (critical(stamped, after, crossed=True),)
    return Decision(events)


def delete_session(view: SessionView, command: DeleteSession, context: Context) -> Decision:
    """Delete the session; if there is none, report so and do nothing."""
    check_version(view.header, command)
    if view.header is None:
        return Decision(output=False)
    return Decision((stamp(view.header, context).on(SessionDeleted),), output=True)


def _incarnation(context: Context) -> str:
    # With the time, because a command id may be used again after it is forgotten.
    return f"{context.command_id}-{round(context.time.timestamp() * 1000)}"


def _system_messages(config: SessionConfig, context: Context) -> tuple[ChatMessage, ...]:
    if not config.system_prompt:
        return ()
    content = (TextContent(config.system_prompt),)
    return (ChatMessage(id=context.command_id, role=ChatMessageRole.SYSTEM, content=content, created_at=context.time),)


def _fresh_metrics(config: SessionConfig, context: Context) -> TokenMetrics:
    price = context.catalogue.price(TokenUsage(), config.model, config.provider, context.time)
    return TokenMetrics(
        prompt_tokens=0,
        completion_tokens=0,
        total_tokens=0,
        estimated_cost=0.0,
        context_utilization=0.0,
        max_context_window=context.catalogue.context_window(config.model, config.provider),
        price_source=price.source,
    )


def _refreshed_metrics(
    header: SessionHeader,
    updates: SessionPatch,
    context: Context,
) -> TokenMetricsPatch | UnsetType:
    """Add the new model's window, and the utilisation of it, to the metrics that the producer patches itself."""
    config = apply_patch(header.config, updates.config)
    if (config.model, config.provider) == (header.config.model, header.config.provider):
        return updates.metrics
    wanted = TokenMetricsPatch() if updates.metrics is UNSET else updates.metrics
    if wanted.max_context_window is UNSET:
        wanted = replace(wanted, max_context_window=context.catalogue.context_window(config.model, config.provider))
    if wanted.context_utilization is UNSET:
        wanted = replace(wanted, context_utilization=utilization(apply_patch(header.metrics, wanted)))
    return wanted
