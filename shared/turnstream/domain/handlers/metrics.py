"""Counting tokens (docs/contract.md, Commands; design §9: each call is priced as it arrives)."""

from turnstream.domain.commands import UpdateTokenMetrics
from turnstream.domain.decision import Context, Decision, EventFactory, SessionView, existing, stamp
from turnstream.domain.events import AnyEvent, ContextWindowCritical, TokenMetricsUpdated
from turnstream.domain.models import SessionHeader, TokenMetrics
from turnstream.domain.prices import Price, TokenUsage

CRITICAL_UTILIZATION = 0.8
"""Above this part of the context window every update is also announced as critical (docs/contract.md, Events)."""


def utilization(metrics: TokenMetrics) -> float:
    """Return the part of the context window that is used: of the last prompt where its size is known, else of all."""
    used = metrics.total_tokens if metrics.context_tokens is None else metrics.context_tokens
    return used / metrics.max_context_window


def crosses(before: TokenMetrics, after: TokenMetrics) -> bool:
    """Return whether the utilisation became critical."""
    return before.context_utilization <= CRITICAL_UTILIZATION < after.context_utilization


def critical(stamped: EventFactory, metrics: TokenMetrics, *, crossed: bool) -> AnyEvent:
    """Announce a critical utilisation."""
    return stamped.on(
        ContextWindowCritical,
        utilization=metrics.context_utilization,
        max_context_window=metrics.max_context_window,
        crossed=crossed,
    )


def update_token_metrics(view: SessionView, command: UpdateTokenMetrics, context: Context) -> Decision:
    """Add one call's tokens and price; omitted or zero tokens are announced as well."""
    header = existing(view, command)
    stamped = stamp(header, context)
    before = header.metrics
    metrics = _added(before, command, _price(header, command, context))
    events: tuple[AnyEvent, ...] = (stamped.on(TokenMetricsUpdated, metrics=metrics),)
    if metrics.context_utilization > CRITICAL_UTILIZATION:
        events += (critical(stamped, metrics, crossed=crosses(before, metrics)),)
    return Decision(events)


def _price(header: SessionHeader, command: UpdateTokenMetrics, context: Context) -> Price:
    usage = TokenUsage(
        prompt_tokens=command.prompt_tokens or 0,
        completion_tokens=command.completion_tokens or 0,
        cache_read_tokens=command.cache_read_tokens or 0,
        cache_write_tokens=command.cache_write_tokens or 0,
    )
    return context.catalogue.price(usage, header.config.model, header.config.provider, context.time)


def _added(before: TokenMetrics, command: UpdateTokenMetrics, price: Price) -> TokenMetrics:
    prompt = before.prompt_tokens + (command.prompt_tokens or 0)
    completion = before.completion_tokens + (command.completion_tokens or 0)
    total = before.total_tokens + (command.prompt_tokens or 0) + (command.completion_tokens or 0)
    context_tokens = before.context_tokens if command.context_tokens is None else command.context_tokens
    used = total if context_tokens is None else context_tokens
    return TokenMetrics(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        estimated_cost=before.estimated_cost + price.cost,
        context_utilization=used / before.max_context_window,
        max_context_window=before.max_context_window,
        price_source=price.source,
        context_tokens=context_tokens,
    )
