"""Connections that are made to permitted addresses only: the address that was checked is the one connected to."""

import asyncio
import socket
import ssl
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, cast

import httpcore2
import httpx2

from turnstream_relay.addresses import Network, is_permitted

IDLE: Final = 30.0
"""Seconds for which a connection is kept for the next delivery."""


ENDLESS: Final = 3600.0
"""Seconds for a connection if the caller has no limit."""


@lru_cache
def tls_context(certificates: str | None) -> ssl.SSLContext:
    """Return what verifies by these certificates (PEM), or by those that the system trusts; made once, it takes long.

    Raises:
        ssl.SSLError: they are not certificates.

    """
    if certificates is None:
        return httpx2.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cadata=certificates)


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """httpx2's transport over a pool of connections that a guarded backend opens.

    Proxies of the environment are not used, for they would resolve names themselves.
    """

    def __init__(self, allowed: Collection[Network], connections: int, certificates: str | None) -> None:
        """Connect to public addresses and to those of the allowed networks; trust these certificates (PEM)."""
        context = tls_context(certificates)
        super().__init__(verify=context)
        # There is no public way to give the transport a backend; a test shows that this one is used.
        self._backend = GuardedBackend(allowed)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=IDLE,
            network_backend=self._backend,
        )

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Close all connections."""
        await super().__aexit__(exc_type, exc_value, traceback)
        self._backend.close()


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a name itself, and connects to what it found and has checked.

    A name that is resolved a second time for the connection could lead elsewhere (DNS rebinding).
    """

    def __init__(self, allowed: Collection[Network]) -> None:
        """Permit public addresses and those of the allowed networks."""
        self._allowed = allowed
        # Its type is that of a stand-in where anyio is missing, which httpx2 requires.
        self._inner = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())
        # A separate thread: a name server that hangs holds up no other endpoint.
        self._resolver = ThreadPoolExecutor(1, "resolver")

    def close(self) -> None:
        """Resolve nothing more."""
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first permitted address that answers.

        Raises:
            ConnectError: the name is unknown, no address of it is permitted, or none answers.
            ConnectTimeout: that took too long.

        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + (ENDLESS if timeout is None else timeout)
        permitted = self._permitted(host, await self._resolve(host, port, deadline))
        failure: Exception = httpcore2.ConnectTimeout()
        for number, address in enumerate(permitted):
            # An address that does not answer leaves time for the next ones.
            share = (deadline - clock()) / (len(permitted) - number)
            try:
                return await self._inner.connect_tcp(address, port, max(share, 0.0), local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        if isinstance(failure, httpcore2.ConnectTimeout):
            raise failure
        raise httpcore2.ConnectError(f"none of the addresses of {host} answers") from failure

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:  # noqa: ANN401
        """Refuse: an endpoint has an address."""
        raise httpcore2.ConnectError("endpoints are reached by TCP only")

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await self._inner.sleep(seconds)

    async def _resolve(self, host: str, port: int, deadline: float) -> list[str]:
        try:
            async with asyncio.timeout_at(deadline):
                found = await asyncio.get_running_loop().run_in_executor(self._resolver, _addresses, host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        # A name that no resolver would be asked for is a UnicodeError.
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "that is no name"
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {reason}") from error
        return list(dict.fromkeys(found))

    def _permitted(self, host: str, addresses: Sequence[str]) -> list[str]:
        permitted = [address for address in addresses if is_permitted(address, self._allowed)]
        if not permitted:
            raise httpcore2.ConnectError(
                f"{host} is at {', '.join(addresses)}, which is no public address: allow_networks may permit it"
            )
        return permitted


def _addresses(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
