"""The URL of a deployment: one server, the seeds of a cluster, or Sentinels and the name of their service."""

import math
import re
import socket
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)

from turnstream.adapters.redis.connection.connector import Connector
from turnstream.adapters.redis.connection.name_resolution import ResolvingConnection, ResolvingSSLConnection
from turnstream.errors import ConfigurationError
from turnstream.settings import Credentials, Settings, credentials_of

CLUSTER = "redis+cluster://user:password@host:6379,host:6379"
SENTINEL = "redis+sentinel://user:password@host:26379,host:26379/service"
EXAMPLES = f"redis://user:password@host:6379/0, {CLUSTER} or {SENTINEL}"

MOST_SECONDS = 32_767
"""The largest values that systems accept for TCP keep-alive."""

SENTINEL_PORT = 26_379
SERVER_PORT = 6_379

Kind = Literal["one", "cluster", "sentinel"]
_RESOLVING: dict[object, Callable[..., AbstractConnection]] = {
    Connection: ResolvingConnection,
    SSLConnection: ResolvingSSLConnection,
}
_KINDS: dict[str, Kind] = {"": "one", "cluster": "cluster", "sentinel": "sentinel"}


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Show it as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Target(msgspec.Struct, frozen=True):
    """A parsed URL: the addresses to ask (none if `options` has the server), and how to connect."""

    kind: Kind
    options: dict[str, Any]
    asked: tuple[Address, ...] = ()
    service: str = ""
    sentinel_options: dict[str, Any] = {}

    def connector(self) -> Connector:
        """Return what makes connections to the one server of the URL."""
        return _connector(self.options)

    def connector_to(self, address: Address) -> Connector:
        """Return what makes connections to a server of the deployment."""
        return _connector(self.options | address._asdict())

    def connector_to_sentinel(self, address: Address) -> Connector:
        """Return the connector to a Sentinel, which has separate users and passwords."""
        return _connector(self.sentinel_options | address._asdict())


def read_settings(settings: Settings, name: str) -> Target:
    """Read where the server or the servers of the settings are, and as whom to connect.

    Raises:
        ConfigurationError: the URL or the file with a password cannot be read, or both give a user or a password.

    """
    target = read_url(settings.redis_url.get_secret_value(), settings.connect_timeout, name, settings.heartbeat)
    options = _let_in(target.options, credentials_of(settings, "redis"), "redis")
    if target.kind != "sentinel":
        return replace(target, options=options)
    sentinel_options = _let_in(target.sentinel_options, credentials_of(settings, "sentinel"), "sentinel")
    return replace(target, options=options, sentinel_options=sentinel_options)


def _let_in(options: dict[str, Any], credentials: Credentials, of: str) -> dict[str, Any]:
    """Add a user and a password to what the URL says; one that both give could be either."""
    password = credentials.password.get_secret_value() if credentials.password else None
    given = {"username": credentials.username, "password": password}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if options.get(name) is not None:
            raise ConfigurationError(
                f"The URL has a {name}, and TURNSTREAM_{of.upper()}_{name.upper()} is set as well: leave one out"
            )
    return options | given


def read_url(url: str, connect_timeout: float, name: str, heartbeat: float) -> Target:
    """Read the URL of a deployment's server or servers.

    Args:
        url: `redis://`, `rediss://`, `unix://`, or one of the first two with `+cluster` or `+sentinel`.
        connect_timeout: seconds to wait for a connection.
        name: the name in `CLIENT LIST`.
        heartbeat: seconds after which the system gives up a connection whose other end acknowledges nothing.

    Raises:
        ConfigurationError: the URL cannot be read.

    """
    scheme, _, rest = url.partition("://")
    base, _, form = scheme.partition("+")
    kind = _KINDS.get(form)
    try:
        if kind is None or (base != "unix" and _is_cut(rest)):
            raise _unreadable()
        if kind == "one":
            return Target(kind, _prepared(url, connect_timeout, name, heartbeat))
        return _of_many(kind, base, rest, (connect_timeout, name, heartbeat))
    except ValueError:
        # Not with the reason: it quotes the URL, and with it the password.
        raise _unreadable() from None


def _is_cut(rest: str) -> bool:
    """Return whether a password with one of these characters has ended what names it and the host."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return "#" in rest or ("@" in rest and "@" not in authority)


def _of_many(kind: Kind, base: str, rest: str, how: tuple[float, str, float]) -> Target:
    """Read a URL with several hosts, one after the other, as URLs of one host."""
    authority, slash, tail = rest.partition("/")
    if not slash:
        authority, question, query = authority.partition("?")
        tail = question + query
    path, question, query = tail.partition("?")
    credentials, at, hosts = authority.rpartition("@")
    service, _, db = path.partition("/") if kind == "sentinel" else ("", "", path)
    urls = [f"{base}://{credentials}{at}{host}/{db}{question}{query}" for host in hosts.split(",")]
    read = [_prepared(one, *how) for one in urls]
    port = SENTINEL_PORT if kind == "sentinel" else SERVER_PORT
    asked = tuple(Address(options.pop("host"), options.pop("port", port)) for options in read if "host" in options)
    options = read[0]
    sentinel = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if len(asked) < len(urls) or (kind == "sentinel" and not service) or (db and not db.isdigit()):
        raise _unreadable()
    if kind == "cluster" and options.get("db"):
        raise ConfigurationError("A cluster has the database 0 only: use another namespace in place of /" + db)
    without = {"username", "password", "db"}
    common = {name: value for name, value in options.items() if name not in without}
    given = {name: value for name, value in sentinel.items() if value is not None}
    return Target(kind, options, asked, service, common | given if kind == "sentinel" else {})


def _prepared(url: str, connect_timeout: float, name: str, heartbeat: float) -> dict[str, Any]:
    options: dict[str, Any] = dict(parse_url(url))
    kind = options.get("connection_class", UnixDomainSocketConnection if "path" in options else Connection)
    if kind is not UnixDomainSocketConnection:
        # The system also detects a vanished host while a read waits.
        options |= {"socket_keepalive": True, "socket_keepalive_options": _keep_alive(heartbeat)}
    options.update(connection_class=kind, socket_timeout=None, socket_connect_timeout=connect_timeout)
    return options | {"protocol": 2, "client_name": name}


def _keep_alive(heartbeat: float) -> dict[int, int]:
    """Return the options of a TCP socket, as far as the system has them."""
    idle = min(math.ceil(heartbeat / 2), MOST_SECONDS)
    chosen = {
        # The first is Linux's name for it, the second macOS's.
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,
        "TCP_KEEPINTVL": min(math.ceil(heartbeat / 4), MOST_SECONDS),
        "TCP_KEEPCNT": 2,
        # In milliseconds; for unacknowledged data.
        "TCP_USER_TIMEOUT": math.ceil(min(heartbeat, MOST_SECONDS) * 1000),
    }
    return {getattr(socket, name): value for name, value in chosen.items() if hasattr(socket, name)}


def _connector(options: dict[str, Any]) -> Connector:
    given: Callable[..., AbstractConnection] = options["connection_class"]
    kind = _RESOLVING.get(given, given)
    others = {name: value for name, value in options.items() if name != "connection_class"}
    return lambda: kind(**others)


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        f"The server's URL cannot be read; it looks like {EXAMPLES}. A user or a password with characters such as "
        "/ # ? % @ : goes into TURNSTREAM_REDIS_USERNAME and TURNSTREAM_REDIS_PASSWORD, or into the file that "
        "TURNSTREAM_REDIS_PASSWORD_FILE names"
    )
