"""The tables that come with the package: the values of the contract, and the windows that genai-prices lacks."""

from functools import cache

from turnstream.catalogue.model_table import ModelTable


@cache
def spec_table() -> ModelTable:
    """Return the windows and prices that the contract fixes (docs/contract.md, Windows and prices)."""
    return _packaged("spec.toml")


@cache
def windows_table() -> ModelTable:
    """Return the context windows that genai-prices lacks, as of the date in the file."""
    return _packaged("windows.toml")


def _packaged(name: str) -> ModelTable:
    from importlib.resources import files  # noqa: PLC0415 - takes time, as the next one

    from turnstream.catalogue.table_file import read_table  # noqa: PLC0415 - imports pydantic

    return ModelTable(read_table(files("turnstream.catalogue") / name))
