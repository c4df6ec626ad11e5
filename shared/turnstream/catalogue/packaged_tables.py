"""The tables that come with the package: the values of the contract, and the windows that genai-prices lacks."""

from functools import cache
from importlib.resources import files

from turnstream.catalogue.model_table import ModelTable, read_table


@cache
def spec_table() -> ModelTable:
    """Return the windows and prices that the contract fixes (docs/contract.md, Windows and prices)."""
    return _packaged("spec.toml")


@cache
def windows_table() -> ModelTable:
    """Return the context windows that genai-prices lacks, as of the date in the file."""
    return _packaged("windows.toml")


def _packaged(name: str) -> ModelTable:
    return ModelTable(read_table(files("turnstream.catalogue") / name))
