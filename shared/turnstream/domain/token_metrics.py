"""The arithmetic of token metrics: windows, utilisation and costs (design §9: each call is priced as it arrives)."""

from datetime import datetime

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from turnstream.domain.models import SessionConfig, SessionHeader, TokenMetrics
from turnstream.domain.patches import SessionPatch, TokenMetricsPatch, apply_patch
from turnstream.domain.prices import Catalogue, TokenUsage

CRITICAL_UTILIZATION = 0.8
"""Above this part of the context window every update is also announced as critical (docs/contract.md, Events)."""


def is_critical(metrics: TokenMetrics) -> bool:
    """Return whether the utilisation is critical."""
    return metrics.context_utilization > CRITICAL_UTILIZATION


def becomes_critical(before: TokenMetrics, after: TokenMetrics) -> bool:
    """Return whether the utilisation became critical."""
    return is_critical(after) and not is_critical(before)


def first_metrics(config: SessionConfig, catalogue: Catalogue, time: datetime) -> TokenMetrics:
    """Return the metrics of a new session."""
    price = catalogue.price(TokenUsage(), config.model, config.provider, time)
    return TokenMetrics(
        prompt_tokens=0,
        completion_tokens=0,
        total_tokens=0,
        estimated_cost=0.0,
        context_utilization=0.0,
        max_context_window=catalogue.context_window(config.model, config.provider),
        price_source=price.source,
    )


def metrics_after_call(
    header: SessionHeader, usage: TokenUsage, context_tokens: int | None, catalogue: Catalogue, time: datetime
) -> TokenMetrics:
    """Return the metrics of a session after one more call of the model.

    Args:
        header: the session before the call.
        usage: the tokens of the call.
        context_tokens: the size of the prompt, if it is known.
        catalogue: windows and prices of models.
        time: the time of the call, for its price.

    """
    before = header.metrics
    price = catalogue.price(usage, header.config.model, header.config.provider, time)
    total = before.total_tokens + usage.prompt_tokens + usage.completion_tokens
    context_tokens = before.context_tokens if context_tokens is None else context_tokens
    return TokenMetrics(
        prompt_tokens=before.prompt_tokens + usage.prompt_tokens,
        completion_tokens=before.completion_tokens + usage.completion_tokens,
        total_tokens=total,
        estimated_cost=before.estimated_cost + price.cost,
        context_utilization=_utilization(total, context_tokens, before.max_context_window),
        max_context_window=before.max_context_window,
        price_source=price.source,
        context_tokens=context_tokens,
    )


def metrics_patch_for_model(
    header: SessionHeader, updates: SessionPatch, catalogue: Catalogue
) -> TokenMetricsPatch | UnsetType:
    """Return the patch of the metrics; if the model changes, with its window and the utilisation of that.

    The producer's own values of these two take precedence.
    """
    config = apply_patch(header.config, updates.config)
    if (config.model, config.provider) == (header.config.model, header.config.provider):
        return updates.metrics
    patch = TokenMetricsPatch() if updates.metrics is UNSET else updates.metrics
    if patch.max_context_window is UNSET:
        patch = replace(patch, max_context_window=catalogue.context_window(config.model, config.provider))
    if patch.context_utilization is UNSET:
        after = apply_patch(header.metrics, patch)
        used = _utilization(after.total_tokens, after.context_tokens, after.max_context_window)
        patch = replace(patch, context_utilization=used)
    return patch


def _utilization(total_tokens: int, context_tokens: int | None, window: int) -> float:
    """Return the used part of the context window: by the last prompt if its size is known, else by all tokens."""
    return (total_tokens if context_tokens is None else context_tokens) / window
