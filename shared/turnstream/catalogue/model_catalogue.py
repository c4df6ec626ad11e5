"""The catalogue: one look-up order over the operator's table, the contract's, genai-prices and our own windows."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from turnstream.catalogue import genai
from turnstream.catalogue.model_name import REMEMBERED_NAMES, ModelName, model_name
from turnstream.catalogue.model_table import ModelTable, first_price, first_window
from turnstream.catalogue.packaged_tables import spec_table, windows_table
from turnstream.domain.prices import Price, PriceSource, TokenUsage

if TYPE_CHECKING:
    from turnstream.catalogue.table_file import ModelEntry

DEFAULT_CONTEXT_WINDOW = 4096
"""Tokens; the window of an unknown model (docs/contract.md, Windows and prices)."""

UNKNOWN_PRICE = Price(0.0, PriceSource.UNKNOWN)


class ModelCatalogue:
    """Context windows and prices of models: the domain's `Catalogue`.

    Names are compared without regard to case. A model may carry its provider as a prefix (`openai/gpt-4`).
    """

    def __init__(self, overrides: "Mapping[str, ModelEntry] | None" = None) -> None:
        """Make a catalogue.

        Args:
            overrides: entries that come before every other source, by exact name: `model`, or `provider/model` for
                the sessions of one provider only.
        """
        self._overrides = ModelTable(overrides or {})
        self._window = lru_cache(maxsize=REMEMBERED_NAMES)(self._find_window)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Make a catalogue with the overrides of an operator's TOML file (its form: `table_file`).

        Raises:
            ConfigurationError: the file cannot be read or an entry is wrong; the message says which and what to do.
        """
        from turnstream.catalogue.table_file import read_table  # noqa: PLC0415 - imports pydantic

        return cls(read_table(Path(path)))

    def context_window(self, model: str, provider: str | None = None) -> int:
        """Return the model's context window in tokens; 4096 if it is unknown (design §9)."""
        return self._window(model_name(model, provider))

    def price(self, usage: TokenUsage, model: str, provider: str | None, at: datetime) -> Price:
        """Return the price of one call (design §9).

        Args:
            usage: the call's tokens; the cached ones are parts of the prompt's.
            model: the model's name.
            provider: the provider of the model: free text, used if it is known.
            at: when the call was made; prices change.

        Returns:
            The cost in USD and its source; 0 and `UNKNOWN` for an unknown model.
        """
        name = model_name(model, provider)
        if override := first_price(self._overrides.exact(name.spellings)):
            return Price(override.cost(usage), PriceSource.OVERRIDE)
        # The contract has no rates for cached tokens; genai-prices often has.
        uses_cache = bool(usage.cache_read_tokens or usage.cache_write_tokens)
        if not uses_cache and (entry := first_price(spec_table().exact(name.spellings))):
            return Price(entry.cost(usage), PriceSource.SPEC)
        if (cost := genai.known_cost(usage, name, at)) is not None:
            return Price(cost, PriceSource.CATALOGUE)
        if entry := first_price(spec_table().family(name.spellings)):
            return Price(entry.cost(usage), PriceSource.SPEC)
        return UNKNOWN_PRICE

    def _find_window(self, name: ModelName) -> int:
        return (
            first_window(self._overrides.exact(name.spellings))
            or first_window(spec_table().exact(name.spellings))
            or genai.known_window(name)
            or first_window(windows_table().family(name.spellings))
            or first_window(spec_table().family(name.spellings))
            or DEFAULT_CONTEXT_WINDOW
        )


@cache
def default_catalogue() -> ModelCatalogue:
    """Return the catalogue without overrides."""
    return ModelCatalogue()


def load_catalogue(file: Path | None) -> ModelCatalogue:
    """Return the catalogue with the overrides of an operator's file, or the default one without a file.

    Raises:
        ConfigurationError: the file cannot be read or an entry is wrong; the message says which and what to do.

    """
    return ModelCatalogue.from_file(file) if file else default_catalogue()


def context_window_size(model: str, provider: str | None = None) -> int:
    """Return the model's context window in tokens, by the default catalogue."""
    return default_catalogue().context_window(model, provider)


def calculate_cost(prompt_tokens: int, completion_tokens: int, model: str, provider: str | None = None) -> float:
    """Return the USD that a call costs now, by the default catalogue; 0 if the model is unknown."""
    usage = TokenUsage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
    return default_catalogue().price(usage, model, provider, datetime.now(UTC)).cost
