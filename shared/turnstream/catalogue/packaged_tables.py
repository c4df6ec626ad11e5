"""The tables that come with the package: what the spec says, and the windows that genai-prices lacks."""

from functools import cache
from importlib.resources import files

from turnstream.catalogue.model_table import ModelTable, read_table


@cache
def spec_table() -> ModelTable:
    """Return the windows and prices of the spec's `getContextWindowSize` and `calculateCost`."""
    return _packaged("spec.toml")


@cache
def windows_table() -> ModelTable:
    """Return the context windows that genai-prices lacks, as of the date in the file."""
    return _packaged("windows.toml")


def _packaged(name: str) -> ModelTable:
    return ModelTable(read_table(files("turnstream.catalogue") / name))
