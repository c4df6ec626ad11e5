"""The settings of an operator, from the environment (`TURNSTREAM_…`) or given to the constructors."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr, replace

from turnstream.errors import ConfigurationError

PREFIX: Final = "TURNSTREAM_"


class Secret:
    """A text that no `repr` and no error shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep a text secret."""
        self._text = text

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"


class Credentials(NamedTuple):
    """A user and a password; `None` if there is none."""

    username: str | None = None
    password: Secret | None = None


CREDENTIALS = (
    *("redis_username", "redis_password", "redis_password_file"),
    *("sentinel_username", "sentinel_password", "sentinel_password_file"),
)
"""The settings that let a program in."""

PositiveInt = Annotated[int, Meta(gt=0)]
Seconds = Annotated[float, Meta(gt=0, le=10**9)]
"""Seconds that the server can count in milliseconds; infinity is not allowed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a client or a worker; all programs of a deployment need the same namespace and partitions.

    `Settings(…)` does not read the environment: `load_settings` does.

    Raises:
        ConfigurationError: a value is not allowed; names the environment variable.

    """

    redis_url: Secret = Secret("redis://localhost:6379")
    """Where the server is; may hold a password, so it is never printed whole."""
    redis_username: str | None = None
    """The server's user; a URL need not hold it."""
    redis_password: Secret | None = None
    """Its password, of any characters; a URL need not hold it."""
    redis_password_file: Path | None = None
    """A file with the password, read whenever a connection to the deployment is set up."""
    sentinel_username: str | None = None
    """The user of Sentinels, if it differs from that of the server."""
    sentinel_password: Secret | None = None
    """Its password."""
    sentinel_password_file: Path | None = None
    """A file with it."""
    namespace: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,32}\Z")] = "ts"
    """The first part of every key and channel."""
    partitions: Annotated[int, Meta(gt=0, le=4096)] = 64
    """How many partitions a new deployment gets: a power of two, fixed at creation."""

    max_message_bytes: PositiveInt = 1024 * 1024
    """The largest command, in bytes of JSON."""
    max_backlog: PositiveInt = 100_000
    """Waiting commands of one partition above which new ones are refused."""
    durability: Literal["memory", "replicated", "fsync"] = "memory"
    """When workers publish replies and live events: immediately, or after replicas or the disk have the writes."""
    replicas: PositiveInt = 1
    """How many replicas must have a command, where the durability is `replicated`."""
    deduplication_window: Seconds = 120.0
    """Seconds for which a resent command is recognised."""
    event_retention: PositiveInt = 10_000
    """Events kept for late subscribers, of each partition."""
    event_retention_age: Seconds = 86_400.0
    """Seconds for which they are kept, unless more came since than are kept."""
    event_retention_bytes: PositiveInt = 16 * 1024 * 1024
    """Their bytes as JSON, of each partition; one larger event is kept until the next."""
    malformed_retention: PositiveInt = 1_000
    """Entries that could not be read, kept of each partition."""
    parked_commands: PositiveInt = 10_000
    """Commands of parked sessions kept of each partition; more are refused."""
    parked_bytes: PositiveInt = 64 * 1024 * 1024
    """Their bytes, of each partition."""
    parked_events: PositiveInt = 10_000
    """Events that a durable subscription queues for retries in each partition; further ones are lost to it."""
    parked_event_bytes: PositiveInt = 64 * 1024 * 1024
    """Their bytes, of each partition."""
    subscriber_buffer: PositiveInt = 10_000
    """Events that may wait in a subscription; more are read from the streams when there is room again."""
    subscriber_buffer_bytes: PositiveInt = 64 * 1024 * 1024
    """Their bytes as JSON; a page of each stream that is read may be added to it."""

    lease: Seconds = 5.0
    """Seconds after which the partitions of a silent worker are free to take."""
    worker_id: str | None = None
    """A worker's name in logs and in the registry; the host's name and process id by default. Give a name that stays
    the same after a restart, and the worker gets its former partitions. With several processes each adds its number."""
    batch_commands: Annotated[int, Meta(gt=0, le=4_000)] = 512
    """Commands applied in one step."""
    batch_bytes: PositiveInt = 1024 * 1024
    """Bytes of commands applied in one step; a larger command is a separate step."""
    cached_sessions: PositiveInt = 100_000
    """Session headers that a worker keeps in memory."""

    timeout: Seconds = 30.0
    """Seconds in which a call that sends a command is to be done, where the caller gives no others."""
    connect_timeout: Seconds = 5.0
    """Seconds to wait for a connection, until it can be used."""
    response_timeout: Seconds = 10.0
    """Seconds to wait for the server's answer to a command that does not block, while others come."""
    heartbeat: Seconds = 5.0
    """Seconds for which a connection may owe an answer while nothing comes over it: then it is replaced. One over which
    nothing came for half of that is asked whether it is alive."""
    scripts: Literal["functions", "evalsha"] = "functions"
    """How Lua runs on the server: by functions that workers load, or, where a host has none, by EVALSHA alone."""
    catalogue_file: Path | None = None
    """A TOML file with windows and prices of models, which override the built-in ones."""

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            force_setattr(self, name, _checked(name, kind, getattr(self, name)))
        if self.partitions & (self.partitions - 1):
            raise ConfigurationError(f"{PREFIX}PARTITIONS: expected a power of two, not {self.partitions}")

    @property
    def masked_url(self) -> str:
        """The server's URL without its password."""
        url = re.sub(r"(password=)[^&]*", r"\1***", self.redis_url.get_secret_value())
        scheme, separator, rest = url.partition("://")
        credentials, at, host = rest.rpartition("@")
        user = credentials.partition(":")[0]
        return f"{scheme}{separator}{user}:***@{host}" if at else url

    def without_credentials(self) -> "Settings":
        """Return the same settings for a server that asks for no password, as one of the program's own."""
        return replace(self, **dict.fromkeys(CREDENTIALS))

    def at(self, url: str) -> "Settings":
        """Return the same settings for a server at another URL."""
        return replace(self, redis_url=Secret(url))


def credentials_of(settings: Settings, servers: Literal["redis", "sentinel"]) -> Credentials:
    """Return the user and the password of the servers or of the Sentinels, as far as the settings have them.

    Raises:
        ConfigurationError: there are two passwords, or the file with it cannot be read.

    """
    password: Secret | None = getattr(settings, f"{servers}_password")
    file: Path | None = getattr(settings, f"{servers}_password_file")
    variable = f"TURNSTREAM_{servers.upper()}_PASSWORD"
    if password and file:
        raise ConfigurationError(f"{variable} and {variable}_FILE are both set: one is to hold the password")
    if file:
        password = read_secret(file, f"{variable}_FILE")
    return Credentials(getattr(settings, f"{servers}_username") or None, password or None)


def read_secret(file: Path, named_by: str) -> Secret:
    """Return the password in a file, without the end of its line.

    Raises:
        ConfigurationError: the file cannot be read, or is empty; says what had named it.

    """
    try:
        secret = file.read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(f"{named_by}: {file} cannot be read: {reason}") from None
    if not secret:
        raise ConfigurationError(f"{named_by}: {file} is empty")
    return Secret(secret)


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - each setting has a type of its own
    """Read the settings from the environment; `None` among the overrides leaves a setting as it is.

    Raises:
        ConfigurationError: a value is not allowed, or there is no such setting; names the environment variable.

    """
    for name in overrides:
        if name not in Settings.__struct_fields__:
            raise ConfigurationError(f"{PREFIX}{name.upper()}: there is no such setting")
    variables = {name: os.environ.get(f"{PREFIX}{name.upper()}") for name in Settings.__struct_fields__}
    values: dict[str, Any] = variables | {name: value for name, value in overrides.items() if value is not None}
    return Settings(**{name: value for name, value in values.items() if value is not None})


@cache
def _kinds() -> dict[str, Any]:
    """Return the type of each setting, with its limits."""
    return get_type_hints(Settings, include_extras=True)


def _checked(name: str, kind: Any, value: object) -> object:  # noqa: ANN401 - a type
    """Return a value of a setting as one of its type: the environment has texts."""
    try:
        return msgspec.convert(value, kind, strict=False, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        text = str(error)
        reason = f"{text[:1].lower()}{text[1:]}"
        if get_origin(kind) is Literal:
            reason = f"expected one of {', '.join(get_args(kind))}, not {value!r}"
        raise ConfigurationError(f"{PREFIX}{name.upper()}: {reason}") from None


def _from_text(kind: type, value: object) -> object:
    """Return a path or a secret, which msgspec does not know."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str | Path):
        return kind(value)
    raise TypeError("expected a text")
