"""The models: their context windows and prices.

The tables are in `turnstream.catalogue`; the domain sees this protocol only (design §1: prices are looked up
when deciding and written into the events).
"""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec


class PriceSource(StrEnum):
    """Where a price came from; `UNKNOWN` tells a cost of 0 from a free model (design §9)."""

    OVERRIDE = "override"
    SPEC = "spec"
    CATALOGUE = "catalogue"
    UNKNOWN = "unknown"


class TokenUsage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The tokens of one call of a model; the cached ones are parts of the prompt's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Price(msgspec.Struct, frozen=True, gc=False):
    """The cost of a call in USD, and the source of the price."""

    cost: float
    source: PriceSource


class Catalogue(Protocol):
    """Context windows and prices of models."""

    def context_window(self, model: str, provider: str | None) -> int:
        """Return the model's context window in tokens."""
        ...

    def price(self, usage: TokenUsage, model: str, provider: str | None, at: datetime) -> Price:
        """Return the price of one call made at the given time."""
        ...
