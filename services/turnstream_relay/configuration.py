"""The relay's configuration file: TOML, checked by pydantic, with errors that say what a line means (docs/relay.md)."""

import os
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    IPvAnyNetwork,
    PositiveFloat,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from turnstream import RetryPolicy
from turnstream.errors import ConfigurationError
from turnstream.events import Event
from turnstream.wire import EVENT_TYPES
from turnstream_relay.network import tls_context
from turnstream_relay.signatures import PREFIX, check_secret


def _event_type(name: str) -> str:
    if name not in EVENT_TYPES:
        raise ValueError(f"{name!r} is none of {', '.join(EVENT_TYPES)}")
    return name


def _read_secret(source: object, info: ValidationInfo) -> str:
    """Read a secret from its source; neither the secret nor a wrong value in its place is ever part of an error."""
    given = cast("dict[str, object]", source) if isinstance(source, dict) else {}
    # A secret in place of its name would be quoted as one.
    is_name = not any(str(name).startswith(PREFIX) for name in given.values())
    match given if len(given) == 1 and is_name else {}:
        case {"env": str(name)}:
            secret, place = os.environ.get(name), f"the environment variable {name}"
        case {"file": str(name)}:
            secret, place = _text_beside(name, info), f"the file {name}"
        case _:
            raise ValueError('is written { env = "NAME" } or { file = "PATH" }, and never into this file itself')
    if secret is None:
        raise ValueError(f"{place} is not there")
    try:
        return check_secret(secret.strip())
    except ValueError as error:
        raise ValueError(f"{place} {error}") from None


def _read_certificates(name: object, info: ValidationInfo) -> str | None:
    if not isinstance(name, str):
        raise ValueError("is written as the path of a file")  # noqa: TRY004 - pydantic takes ValueErrors
    certificates = _text_beside(name, info)
    try:
        tls_context(certificates)
    except ssl.SSLError as error:
        raise ValueError(f"the file {name} holds no certificates in PEM") from error
    return certificates


def _text_beside(name: str, info: ValidationInfo) -> str:
    """Read a file whose path begins in the folder of the configuration file."""
    path = cast("dict[str, Path]", info.context)["directory"] / name
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from error


def _sendable(url: HttpUrl) -> HttpUrl:
    if url.username or url.password or url.fragment:
        raise ValueError("takes no user, password or fragment: who sends is shown by the signature")
    return url


DAY = 86_400.0
MOST_DAYS = 30 * DAY

EndpointName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,48}$")]
Secret = Annotated[SecretStr, BeforeValidator(_read_secret)]


class Endpoint(BaseModel):
    """One HTTP endpoint, and what is delivered to it; each description says in an error what the line means."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    url: Annotated[HttpUrl, AfterValidator(_sendable), Field(description="where events are posted to")]
    secret: Annotated[Secret, Field(description="what deliveries are signed with")]
    previous_secret: Annotated[
        Secret | None, Field(description="the secret before it, which signs as well during a rotation")
    ] = None
    events: Annotated[
        tuple[Annotated[str, AfterValidator(_event_type)], ...], Field(description="the types of events; none: all")
    ] = ()
    session_prefix: Annotated[str, Field(description="how the ids of its sessions begin")] = ""
    start: Annotated[Literal["now", "beginning"], Field(description="where a new endpoint begins")] = "now"
    timeout: Annotated[PositiveFloat, Field(le=300, description="seconds that an attempt may take")] = 15.0
    concurrency: Annotated[int, Field(ge=1, le=1000, description="attempts of a process at the same time")] = 8
    rate_limit: Annotated[PositiveFloat | None, Field(description="attempts of a process a second")] = None
    attempts: Annotated[
        int | None, Field(ge=1, description="attempts at an event, at most, before its session is parked")
    ] = None
    retry_for: Annotated[
        PositiveFloat,
        Field(le=MOST_DAYS, description="seconds for which an event is tried before its session is parked"),
    ] = DAY
    longest_pause: Annotated[
        PositiveFloat, Field(le=DAY, description="seconds of the longest pause between two attempts at an event")
    ] = 900.0
    parked_every: Annotated[
        PositiveFloat, Field(le=MOST_DAYS, description="seconds after which a parked session is tried once more")
    ] = 3600.0
    max_backoff: Annotated[
        PositiveFloat,
        Field(le=3600, description="seconds between attempts, at most, while the endpoint fails and asks for no more"),
    ] = 60.0
    gzip: Annotated[bool, Field(description="whether large bodies are compressed")] = True
    allow_http: Annotated[bool, Field(description="whether events may travel unencrypted")] = False
    allow_networks: Annotated[
        tuple[IPvAnyNetwork, ...], Field(description="networks that are not public, and may be posted to all the same")
    ] = ()
    ca_file: Annotated[
        str | None, BeforeValidator(_read_certificates), Field(description="the file of certificates to trust")
    ] = None
    """The certificates themselves, in PEM: the content of the file may change without its name."""

    @property
    def types(self) -> tuple[type[Event], ...]:
        """The classes of its events; none for all."""
        return tuple(EVENT_TYPES[name] for name in self.events)

    @property
    def retries(self) -> RetryPolicy:
        """When an event that the endpoint did not take is tried again."""
        return RetryPolicy(
            attempts=self.attempts,
            seconds=self.retry_for,
            longest_pause=self.longest_pause,
            parked_every=self.parked_every,
        )

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """The secrets that sign, the current one first."""
        return (self.secret,) if self.previous_secret is None else (self.secret, self.previous_secret)

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if self.url.scheme == "http" and not self.allow_http:
            raise ValueError("url is http://…, so that anybody on the way could read events: use https, or allow_http")
        return self


class Configuration(BaseModel):
    """All endpoints, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoints: Annotated[
        dict[EndpointName, Endpoint], Field(min_length=1, description="a table [endpoints.NAME] for each endpoint")
    ]


def load_configuration(path: Path) -> Configuration:
    """Read a configuration file, and the secrets that it names.

    Raises:
        ConfigurationError: it cannot be read, is no TOML or says what may not be said; all that is wrong is told.

    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return Configuration.model_validate(content, context={"directory": path.parent})
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not text in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        problems = (_problem(dict(problem)) for problem in error.errors(include_url=False, include_input=False))
        # The input of pydantic may be a secret, so its own text is not shown.
        raise ConfigurationError("\n  ".join([f"{path} does not fit:", *problems])) from None


def _problem(problem: Mapping[str, Any]) -> str:
    """Return where something is wrong, what that line means, and what is wrong with it."""
    place = [str(part) for part in problem["loc"]]
    of_endpoint = len(place) > 1
    fields = Endpoint.model_fields if of_endpoint else Configuration.model_fields
    # An endpoint's settings stand below `endpoints` and its name.
    field = fields.get("".join(place[2:3] if of_endpoint else place))
    meaning = f" ({field.description})" if field else ""
    text = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        text = f"there is no such setting; there are {', '.join(fields)}"
    return f"{'.'.join(place)}{meaning}: {text}"
