"""Connections whose host names are looked up in threads of the library's own.

asyncio looks names up in the executor of the event loop. If a program fills that executor with work, no
connection can be opened until some of it has ended.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Any, cast

from redis.asyncio.connection import Connection, SSLConnection

from turnstream.threads import in_own_thread


class ResolvingConnection(Connection):
    """A connection by TCP."""

    _address: str | None = None

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = cast("Mapping[str, Any]", super()._connection_arguments())
        return arguments if self._address is None else {**arguments, "host": self._address}

    async def _connect(self) -> None:
        """Connect to the first address of the host that takes a connection, as asyncio does."""
        connect = cast("Callable[[], Awaitable[None]]", super()._connect)
        async with asyncio.timeout(self.socket_connect_timeout):
            *others, last = await _addresses(self.host, self.port)
            for self._address in others:
                try:
                    return await connect()
                except ssl.SSLError:
                    # A server is there, and another address would not say more.
                    raise
                except OSError:
                    continue
            self._address = last
            return await connect()


class ResolvingSSLConnection(ResolvingConnection, SSLConnection):
    """A connection by TLS; the server's certificate is for the host's name, not for its address."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self.host}


async def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which they are to be tried; at least one."""
    try:
        ip_address(host)
    except ValueError:
        found = await in_own_thread(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
        return list(dict.fromkeys(str(address[0]) for *_, address in found))
    return [host]
