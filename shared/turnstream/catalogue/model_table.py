"""A table of models: their windows and prices, by exact name or by family."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnstream.catalogue.table_file import ModelEntry

TOKENS_OF_A_RATE = 1_000_000


class ModelTable:
    """Entries by name, found by exact name or by family; names are compared in lower case."""

    def __init__(self, entries: "Mapping[str, ModelEntry]") -> None:
        """Keep the entries of a table."""
        self._entries = {name.lower(): entry for name, entry in entries.items()}
        longest_first = sorted(self._entries, key=len, reverse=True)
        self._families = [(f"{name}-", self._entries[name]) for name in longest_first]

    def exact(self, spellings: Iterable[str]) -> "Iterator[ModelEntry]":
        """Yield the entries of these names, in the order of the names."""
        return (self._entries[name] for name in spellings if name in self._entries)

    def family(self, spellings: tuple[str, ...]) -> "Iterator[ModelEntry]":
        """Yield the entries whose name begins one of these names, up to a `-` or its end; the longest name first.

        `gpt-4-foo` is of the family `gpt-4`; `gpt-4o` is not (design §9).
        """
        members = tuple(f"{name}-" for name in spellings)
        return (entry for family, entry in self._families if any(member.startswith(family) for member in members))


def first_window(entries: "Iterable[ModelEntry]") -> int | None:
    """Return the first context window that these entries give."""
    return next((entry.window for entry in entries if entry.window), None)


def first_price(entries: "Iterable[ModelEntry]") -> "ModelEntry | None":
    """Return the first of these entries that has a price."""
    return next((entry for entry in entries if entry.has_price), None)
