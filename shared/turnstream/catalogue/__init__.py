"""Context windows and prices of LLM models, as data (design §9).

    catalogue = ModelCatalogue.from_file("models.toml")      # or default_catalogue(), without an operator's file
    catalogue.context_window("gpt-4")                        # 8192
    calculate_cost(1000, 500, "gpt-4")                       # 0.06

A model is looked up in the operator's table; among the exact names of the contract; in the package genai-prices; in
`windows.toml` (windows only); in the families of the contract; and ends at a window of 4096 tokens and the cost 0 of
the source `unknown`.
"""

from turnstream.catalogue.model_catalogue import (
    DEFAULT_CONTEXT_WINDOW,
    ModelCatalogue,
    calculate_cost,
    context_window_size,
    default_catalogue,
    load_catalogue,
)
from turnstream.domain.prices import Price, PriceSource, TokenUsage

__all__ = [
    "DEFAULT_CONTEXT_WINDOW",
    "ModelCatalogue",
    "Price",
    "PriceSource",
    "TokenUsage",
    "calculate_cost",
    "context_window_size",
    "default_catalogue",
    "load_catalogue",
]
