"""What a server's URL says: one server, a cluster's seeds, or Sentinels and the name of what they watch."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)

from turnstream.adapters.redis.topology.connection import Connector
from turnstream.adapters.redis.topology.resolving import ResolvingConnection, ResolvingSSLConnection
from turnstream.errors import ConfigurationError

CLUSTER = "redis+cluster://user:password@host:6379,host:6379"
SENTINEL = "redis+sentinel://user:password@host:26379,host:26379/service"
EXAMPLES = f"redis://user:password@host:6379/0, {CLUSTER} or {SENTINEL}"

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
    """A URL that was read: whom to ask (nobody: `options` says it), and how to connect to a server."""

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
        """Return what makes connections to a Sentinel, which has users and passwords of its own."""
        return _connector(self.sentinel_options | address._asdict())


def read_url(url: str, connect_timeout: float, name: str) -> Target:
    """Read the URL of a deployment's server or servers.

    Args:
        url: `redis://`, `rediss://`, `unix://`, or one of the first two with `+cluster` or `+sentinel`.
        connect_timeout: seconds to wait for a connection.
        name: what `CLIENT LIST` shows.

    Raises:
        ConfigurationError: the URL cannot be read.

    """
    scheme, _, rest = url.partition("://")
    base, _, form = scheme.partition("+")
    kind = _KINDS.get(form)
    try:
        if kind is None:
            raise _unreadable()
        if kind == "one":
            return Target(kind, _prepared(url, connect_timeout, name))
        return _of_many(kind, base, rest, (connect_timeout, name))
    except ValueError:
        # Not with the reason: it quotes the URL, and with it the password.
        raise _unreadable() from None


def _of_many(kind: Kind, base: str, rest: str, how: tuple[float, str]) -> Target:
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
        raise ConfigurationError("A cluster has the database 0 only: use a namespace of your own in place of /" + db)
    without = {"username", "password", "db"}
    common = {name: value for name, value in options.items() if name not in without}
    given = {name: value for name, value in sentinel.items() if value is not None}
    return Target(kind, options, asked, service, common | given if kind == "sentinel" else {})


def _prepared(url: str, connect_timeout: float, name: str) -> dict[str, Any]:
    options: dict[str, Any] = dict(parse_url(url))
    kind = options.get("connection_class", UnixDomainSocketConnection if "path" in options else Connection)
    if kind is not UnixDomainSocketConnection:
        # A host that vanished without a word would otherwise never end a read that waits.
        options["socket_keepalive"] = True
    options.update(connection_class=kind, socket_timeout=None, socket_connect_timeout=connect_timeout)
    return options | {"protocol": 2, "client_name": name}


def _connector(options: dict[str, Any]) -> Connector:
    given: Callable[..., AbstractConnection] = options["connection_class"]
    kind = _RESOLVING.get(given, given)
    others = {name: value for name, value in options.items() if name != "connection_class"}
    return lambda: kind(**others)


def _unreadable() -> ConfigurationError:
    return ConfigurationError(f"The server's URL cannot be read; it looks like {EXAMPLES}")
