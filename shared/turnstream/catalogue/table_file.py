"""A table of models as a TOML file: the operator's, and the two that come with the package.

[models."my-model"]
window = 32768          # tokens
prompt = 0.5            # USD per 1M tokens, like the next three
completion = 1.5
cache_read = 0.05       # without it, or without cache_write, such tokens cost what the prompt's cost
cache_write = 0.6
"""

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from turnstream.catalogue.model_table import TOKENS_OF_A_RATE
from turnstream.domain.prices import TokenUsage
from turnstream.errors import ConfigurationError

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ModelEntry(BaseModel):
    """The entry of one model in a table; absent fields are looked up elsewhere.

    Attributes:
        window: the context window in tokens.
        prompt: USD per 1M tokens of the prompt; goes together with `completion`.
        completion: USD per 1M tokens of the completion.
        cache_read: USD per 1M tokens of the prompt that were read from a cache; the prompt's rate if left out.
        cache_write: USD per 1M tokens of the prompt that were written to a cache; the prompt's rate if left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    window: Annotated[int, Field(gt=0)] | None = None
    prompt: Rate | None = None
    completion: Rate | None = None
    cache_read: Rate | None = None
    cache_write: Rate | None = None

    @model_validator(mode="after")
    def _check_whole_price(self) -> Self:
        # Half a price would charge 0 for the other half, like a free model.
        wanted = {self.prompt is None, self.completion is None}
        if len(wanted) > 1 or (not self.has_price and (self.cache_read, self.cache_write) != (None, None)):
            message = "a price needs both prompt and completion; write 0 for tokens that are free"
            raise ValueError(message)
        return self

    @property
    def has_price(self) -> bool:
        """Whether the entry prices tokens."""
        return self.prompt is not None

    def cost(self, usage: TokenUsage) -> float:
        """Return the USD that a call costs; cached tokens are parts of the prompt's."""
        prompt = self.prompt or 0.0
        read = prompt if self.cache_read is None else self.cache_read
        write = prompt if self.cache_write is None else self.cache_write
        fresh = max(usage.prompt_tokens - usage.cache_read_tokens - usage.cache_write_tokens, 0)
        cached = usage.cache_read_tokens * read + usage.cache_write_tokens * write
        # Divided once: the sum of whole numbers is exact, so the result is the float nearest to the price.
        return (fresh * prompt + cached + usage.completion_tokens * (self.completion or 0.0)) / TOKENS_OF_A_RATE


def read_table(file: Path | Traversable) -> dict[str, ModelEntry]:
    """Read the entries of a TOML file, by name.

    Raises:
        ConfigurationError: the file cannot be read, is not TOML, or an entry of it is wrong; the message says which
            one and what to do.
    """
    try:
        return _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).models
    except OSError as error:
        message = f"The model table {file} cannot be read ({error.strerror}): check the path and its permissions"
        raise ConfigurationError(message) from error
    except ValidationError as error:
        faults = "; ".join(_fault(details) for details in error.errors())
        message = f"The model table {file} is wrong: {faults}"
        raise ConfigurationError(message) from error
    except ValueError as error:  # of tomllib or of the decoder: both say where
        message = f"The model table {file} is not a TOML file: {error}"
        raise ConfigurationError(message) from error


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    models: dict[str, ModelEntry]

    @field_validator("models")
    @classmethod
    def _check_names(cls, models: dict[str, ModelEntry]) -> dict[str, ModelEntry]:
        names = [name.lower() for name in models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"{', '.join(twice)} listed twice, in different case; keep one of them"
            raise ValueError(message)
        return models


_FORM = 'write each entry as [models."name"] with its fields below'

_ADVICE = {
    "missing": _FORM,
    "dict_type": _FORM,
    "model_type": _FORM,
    "extra_forbidden": (
        f"an entry has only {', '.join(ModelEntry.model_fields)} and stands under [models], "
        "its name in quotes if it has a dot"
    ),
    "value_error": "",
}


def _fault(details: ErrorDetails) -> str:
    """Name the entry as TOML does, and say what is wrong with it and what to do."""
    where = ".".join(part if part.isidentifier() else f'"{part}"' for part in map(str, details["loc"]))
    advice = _ADVICE.get(details["type"], f"correct or remove it (it is {details['input']!r})")
    return ": ".join(filter(None, [where, details["msg"].removeprefix("Value error, "), advice]))
