"""The primary, asked of Sentinels for every new connection: reconnecting finds a failover (design §11)."""

import asyncio
from functools import partial
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from turnstream.adapters.redis.connection.addresses import SENTINEL, Address, Target
from turnstream.adapters.redis.connection.attempts import first_of
from turnstream.adapters.redis.connection.connector import answer, cut, opened, raise_for
from turnstream.errors import ConfigurationError, Unavailable


class Sentinels:
    """The Sentinels of a URL; the one that helped last is asked first, and others as well where that takes long."""

    def __init__(self, target: Target, where: str, timeout: float) -> None:
        """Take the URL's meaning, its masked text for errors, and the seconds that an answer may take."""
        self._target = target
        self._where = where
        self._timeout = timeout
        self._asked = list(target.asked)

    async def open(self) -> AbstractConnection:
        """Open a connection to the primary.

        Raises:
            Unavailable: no Sentinel answers, or none names a server that is a primary now.
            ConfigurationError: they do not know the service, are not Sentinels, or this user is refused.

        """
        attempts = [partial(self._primary_of, sentinel) for sentinel in self._asked]
        try:
            return await first_of(attempts, (_UnknownServiceError, Unavailable), cut)
        except ExceptionGroup as failures:
            # That a service is unknown to one that answers says more than that another one is silent.
            unknown = [failure for failure in failures.exceptions if isinstance(failure, ConfigurationError)]
            raise (unknown or failures.exceptions)[-1] from None

    async def _primary_of(self, sentinel: Address) -> AbstractConnection:
        connection = await self._opened_primary(await self._named_by(sentinel))
        self._asked.remove(sentinel)
        self._asked.insert(0, sentinel)
        return connection

    async def _named_by(self, sentinel: Address) -> Address:
        where = f"Sentinel {sentinel} of {self._where}"
        connection = await opened(self._target.connector_to_sentinel(sentinel), where)
        try:
            found = await self._asks(connection, where, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._target.service)
            if found is None:
                raise _UnknownServiceError(
                    f"The Sentinels at {self._where} do not watch a service {self._target.service!r}: "
                    "write the name that follows `sentinel monitor` in their configuration"
                )
        except ResponseError as error:
            raise ConfigurationError(
                f"The server {sentinel} is no Sentinel ({error}): name Sentinels as in {SENTINEL}, or the server itself"
            ) from error
        finally:
            await connection.disconnect(nowait=True)
        host, port = found
        return Address(host.decode(), int(port))

    async def _opened_primary(self, address: Address) -> AbstractConnection:
        where = f"{address}, named by the Sentinels at {self._where}"
        connection = await opened(self._target.connector_to(address), where)
        role = None
        try:
            role, *_ = await self._asks(connection, where, "ROLE")
        finally:
            if role != b"master":
                await connection.disconnect(nowait=True)
        if role != b"master":
            # It was demoted a moment ago.
            raise Unavailable(f"The server at {where}, is not primary any more")
        return connection

    async def _asks(self, connection: AbstractConnection, where: str, *words: str) -> Any:  # noqa: ANN401
        try:
            async with asyncio.timeout(self._timeout):
                await connection.send_command(*words)
                return await answer(connection)
        except TimeoutError:
            raise Unavailable(f"The server at {where}, does not answer") from None
        except RedisError as error:
            raise_for(error)


class _UnknownServiceError(ConfigurationError):
    """A Sentinel does not know the service; another one may."""
