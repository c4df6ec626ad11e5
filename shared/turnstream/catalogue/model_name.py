"""The spellings under which one model is looked up."""

from functools import lru_cache
from typing import NamedTuple

LONGEST_NAME = 256
"""Characters of a name that count: names are free text, and remembered."""

REMEMBERED_NAMES = 1024
"""Models of which a look-up's result is kept; a deployment has dozens."""


class ModelName(NamedTuple):
    """A model's name as a user gave it, and what it may stand for in a table; all in lower case.

    Attributes:
        spellings: names to look for in a table, the most specific first: `provider/model`, `model`, and the model
            without the prefixes that it carries (`openai/gpt-4` is `gpt-4`).
        routes: pairs (provider or None, model) to ask genai-prices for, the most specific first. The provider of a
            session is free text, so each name is also asked for under its own prefix and under no provider at all.
    """

    spellings: tuple[str, ...]
    routes: tuple[tuple[str | None, str], ...]


@lru_cache(maxsize=REMEMBERED_NAMES)
def _model_name(model: str, provider: str | None) -> ModelName:
    bare = model.rpartition("/")[2]
    prefix, _, rest = model.partition("/")
    own = ((provider, model), (provider, bare)) if provider else ()
    routes = (*own, (prefix, rest), (None, model), (None, bare))
    return ModelName(
        spellings=tuple(dict.fromkeys((f"{provider}/{model}" if provider else model, model, bare))),
        routes=tuple(dict.fromkeys(route for route in routes if route[1])),
    )


def model_name(model: str, provider: str | None) -> ModelName:
    """Return the spellings of a model; case and surrounding blanks do not count."""
    return _model_name(_folded(model), _folded(provider) if provider else None)


def _folded(name: str) -> str:
    return name[:LONGEST_NAME].strip().lower()
