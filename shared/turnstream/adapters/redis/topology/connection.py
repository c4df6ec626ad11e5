"""Connections to the server, with explicit options: no silent retries, no surprising time-outs (design §11)."""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from turnstream.errors import ConfigurationError, Unavailable

Word = str | bytes | int | float
Connector = Callable[[], AbstractConnection]
"""Makes a new connection, not yet open."""

Open = Callable[[], Awaitable[AbstractConnection]]
"""Opens a new connection; raises `Unavailable` or `ConfigurationError`."""

TRANSIENT = (
    *(RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError),
    *(MasterDownError, ClusterDownError, TryAgainError),
)
TRANSIENT_CODES = ("NOREPLICAS", "BUSY", "MISCONF", "OOM", "UNBLOCKED")
"""Error replies that pass by themselves (design §4): those that redis-py knows, and others by their first word."""

DENIED_IN_SCRIPTS = ("ACL failure in script", "The user executing the script can't")
"""What Redis 7.2 and Valkey, and Redis 7.0, say where a script runs a command that its user may not."""


async def opened(connect: Connector, where: str) -> AbstractConnection:
    """Open a connection.

    Raises:
        Unavailable: nobody answers there.
        ConfigurationError: the server does not let this user in, or its certificate is not trusted.

    """
    connection = connect()
    try:
        await connection.connect()
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise ConfigurationError(f"The server at {where} refuses the user or the password: {error}") from error
    except (RedisError, OSError) as error:
        untrusted = _certificate_failure(error)
        if untrusted:
            raise ConfigurationError(
                f"The certificate of the server at {where} is not trusted ({untrusted.verify_message}): name the "
                "authority that signed it in the URL, as in rediss://…?ssl_ca_certs=ca.pem",
            ) from error
        raise Unavailable(f"No server answers at {where} ({error}): start one, or set TURNSTREAM_REDIS_URL") from error
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # `asyncio.wait_for`, which a library may have used, swallows it before Python 3.12.
        await connection.disconnect(nowait=True)
        raise asyncio.CancelledError
    return connection


def _certificate_failure(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the reason why a server's certificate was refused, if that is what is behind an error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def raise_for(error: RedisError) -> NoReturn:
    """Raise what a failed call means to the application; other error replies are bugs and stay what they are."""
    text = str(error)
    if isinstance(error, TRANSIENT) or text.startswith(TRANSIENT_CODES):
        raise Unavailable(f"The server cannot take this now: {text}") from error
    if isinstance(error, NoPermissionError) or any(denied in text for denied in DENIED_IN_SCRIPTS):
        raise ConfigurationError(f"The server does not permit this user a command it needs: {text}") from error
    raise error


def pack(words: Sequence[Word]) -> bytes:
    """Return a command as the server reads it; redis-py's own packing is Python and takes most of a producer's time."""
    return cast("Callable[[Sequence[Word]], bytes]", hiredis.pack_command)(tuple(words))


async def answer(connection: AbstractConnection) -> Any:  # noqa: ANN401 - whatever the server answers
    """Return the next answer on a connection, however long it takes; an error reply is raised."""
    read = cast("Callable[..., Awaitable[Any]]", connection.read_response)
    return await read(timeout=math.inf)


class PipelinedConnection:
    """A connection that many share: what they ask for at the same time travels together, answers come in order."""

    def __init__(self, open_: Open, where: str, timeout: float) -> None:
        """Take what opens connections, the server's name for errors, and the seconds to wait for an answer."""
        self._open = open_
        self._where = where
        self._timeout = timeout
        self._outgoing: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, *words: Word) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command and return its answer, bytes where it is text.

        Raises:
            Unavailable: the connection was lost or no answer came in time: it is not known whether it was carried out.
            ResponseError: the server answered with an error that does not pass by itself.

        """
        future = self._queue(words)
        runner = self._runner
        try:
            async with asyncio.timeout(self._timeout):
                return await future
        except TimeoutError:
            await self._disconnect(runner)
            raise Unavailable(f"The server at {self._where} did not answer within {self._timeout:g} s") from None
        except ReadOnlyError as error:
            # It was demoted; a new connection may lead to its successor.
            await self._disconnect(runner)
            raise_for(error)
        except RedisError as error:
            raise_for(error)

    async def call_asking(self, *words: Word) -> Any:  # noqa: ANN401 - whatever the server answers
        """Do what `call` does, on a node of a cluster that is about to get the key's slot."""
        # Both are queued before anything else can run, so nothing comes between the two.
        self._queue(("ASKING",)).add_done_callback(_ignored)
        return await self.call(*words)

    @property
    def idle(self) -> bool:
        """Tell whether nobody waits for an answer."""
        return not self._waiting and not self._outgoing

    def _queue(self, words: Sequence[Word]) -> asyncio.Future[Any]:
        if self._closed:
            raise Unavailable(f"The connection to {self._where} was closed: open a new client")
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="turnstream-connection")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # Packed here, so that words that cannot be packed are the caller's own failure.
        self._outgoing.append((pack(words), future))
        self._wake.set()
        return future

    async def aclose(self) -> None:
        """Close the connection for good; whoever still waits for an answer gets `Unavailable`."""
        self._closed = True
        await self._disconnect(self._runner)

    async def _disconnect(self, runner: asyncio.Task[None] | None) -> None:
        """End a connection, unless it was replaced meanwhile."""
        if runner is not None and runner is self._runner:
            self._runner = None
            if not runner.done():
                runner.cancel()
                await asyncio.wait([runner])

    async def _run(self) -> None:
        """Send and receive until the connection fails; every caller then learns of it."""
        reason: Exception = Unavailable(f"The connection to {self._where} was closed")
        try:
            connection = await self._open()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._send(connection))
                    tasks.create_task(self._receive(connection))
            finally:
                await connection.disconnect(nowait=True)
        except* (Unavailable, ConfigurationError) as group:
            reason = group.exceptions[0]
        except* Exception as group:  # noqa: BLE001 - whatever it is, those who wait must learn of it
            reason = Unavailable(f"The connection to {self._where} was lost: {group.exceptions[0]!r}")
        finally:
            self._fail(reason)

    async def _send(self, connection: AbstractConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._outgoing = self._outgoing, []
            self._waiting.extend(future for _, future in batch)
            await connection.send_packed_command([packed for packed, _ in batch])

    async def _receive(self, connection: AbstractConnection) -> None:
        while True:
            result: Any
            try:
                result = await answer(connection)
            except ResponseError as error:
                result = error
            future = self._waiting.popleft()
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _fail(self, reason: Exception) -> None:
        lost = [*self._waiting, *(future for _, future in self._outgoing)]
        self._waiting.clear()
        self._outgoing.clear()
        for future in lost:
            if not future.done():
                future.set_exception(reason)


def _ignored(answered: asyncio.Future[Any]) -> None:
    """Look at a result that nobody waits for, so that asyncio does not complain of an error in it."""
    if not answered.cancelled():
        answered.exception()
