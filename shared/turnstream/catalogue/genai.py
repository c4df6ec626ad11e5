"""The data of the package genai-prices: windows and prices of over 2,000 models, dated ids and dated prices included.

Its import takes 0.3 s, so it happens at the first model that needs it. Its own `calc_price` takes 0.1 ms, five times
what a command may take, so the sum is done here, with its rates; a test compares the two for every model it has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from turnstream.catalogue.model_name import REMEMBERED_NAMES
from turnstream.catalogue.model_table import TOKENS_OF_A_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from genai_prices.types import ModelInfo, ModelPrice

    from turnstream.catalogue.model_name import ModelName
    from turnstream.domain.prices import TokenUsage

REQUESTS_OF_A_RATE = 1_000


def known_window(name: ModelName) -> int | None:
    """Return the model's context window in tokens, or None if it is not known."""
    return next((model.context_window for model in _models(name) if model.context_window), None)


def known_cost(usage: TokenUsage, name: ModelName, at: datetime) -> float | None:
    """Return the USD that a call cost at a time.

    Returns:
        The cost; None for a model without prices of tokens, and for more cached tokens than the prompt has.
    """
    if usage.cache_read_tokens + usage.cache_write_tokens > usage.prompt_tokens:
        return None
    prices = next(_token_prices(name, at), None)
    return None if prices is None else cost_at(prices, usage)


def cost_at(prices: ModelPrice, usage: TokenUsage) -> float:
    """Return the USD that a call costs at these prices.

    A fee by the request is part of it, unless no token was used: then there was no call.
    """
    from genai_prices.types import calc_unit_price  # noqa: PLC0415 - see the top of this module

    prompt, read, write = usage.prompt_tokens, usage.cache_read_tokens, usage.cache_write_tokens
    requests = 1 if prompt or usage.completion_tokens else 0
    read_price = prices.input_mtok if prices.cache_read_mtok is None else prices.cache_read_mtok
    write_price = prices.input_mtok if prices.cache_write_mtok is None else prices.cache_write_mtok
    parts = (
        (prices.input_mtok, prompt - read - write, TOKENS_OF_A_RATE),
        (read_price, read, TOKENS_OF_A_RATE),
        (write_price, write, TOKENS_OF_A_RATE),
        (prices.output_mtok, usage.completion_tokens, TOKENS_OF_A_RATE),
        (prices.requests_kcount, requests, REQUESTS_OF_A_RATE),
    )
    # The tier of every rate follows from the whole prompt, cached tokens included.
    return float(sum(calc_unit_price(price, count, prompt, per) for price, count, per in parts))


def _token_prices(name: ModelName, at: datetime) -> Iterator[ModelPrice]:
    """Yield the prices of the models of this name that price tokens: others price hours, pages or nothing."""
    every = (model.get_prices(at) for model in _models(name) if model.prices)
    return (prices for prices in every if prices.input_mtok is not None or prices.output_mtok is not None)


@lru_cache(maxsize=REMEMBERED_NAMES)
def _models(name: ModelName) -> tuple[ModelInfo, ...]:
    """Return the models that the name stands for, the most specific first."""
    found = (_find(model, provider) for provider, model in name.routes)
    return tuple(model for model in found if model is not None)


def _find(model: str, provider: str | None) -> ModelInfo | None:
    from genai_prices.data_snapshot import DataSnapshot, get_snapshot  # noqa: PLC0415 - see the top of this module

    # A separate snapshot: the shared one keeps every name that was looked up, and names are free text.
    snapshot = DataSnapshot(providers=get_snapshot().providers, from_auto_update=False)
    try:
        return snapshot.find_provider_model(model, None, provider, None)[1]
    except LookupError:
        return None
