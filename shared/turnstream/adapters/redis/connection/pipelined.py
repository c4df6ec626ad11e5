"""Connections to the server, with explicit options: no silent retries, no surprising time-outs (design §11)."""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, NoReturn, cast

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
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from turnstream.adapters.redis.connection.transport import Transport
from turnstream.errors import ConfigurationError, ServerFull, Unavailable

Word = str | bytes | int | float
Connector = Callable[[], AbstractConnection]
"""Makes a new connection, not yet open."""

Open = Callable[[], Awaitable[AbstractConnection]]
"""Opens a new connection; raises `Unavailable` or `ConfigurationError`."""

TRANSIENT = (
    *(RedisConnectionError, RedisTimeoutError, ReadOnlyError),
    *(MasterDownError, ClusterDownError, TryAgainError),
)
TRANSIENT_CODES = ("NOREPLICAS", "BUSY", "MISCONF", "UNBLOCKED")
"""Transient error replies (design §4): those that redis-py knows, and others by their first word."""

READS = frozenset(
    {
        *("EVALSHA_RO", "EVAL_RO", "FCALL_RO", "EXISTS", "HEXISTS", "HGET", "HGETALL", "INFO", "SMEMBERS", "TIME"),
        *("XRANGE", "ZCARD", "ZRANGE"),
    }
)
"""Commands that change nothing: where their answer was lost they are asked once more."""

DENIED_IN_SCRIPTS = ("ACL failure in script", "The user executing the script can't")
"""The errors of Redis 7.2 and Valkey, and of Redis 7.0, for a script whose user may not run one of its commands."""


class LostError(Exception):
    """A connection that was open was lost, or is dead: it is not known whether what was asked was carried out."""


async def opened(connect: Connector, where: str) -> AbstractConnection:
    """Open a connection, all that the two sides say first included, within the time that it was made with.

    Raises:
        Unavailable: no server answers there.
        ConfigurationError: the server does not let this user in, or its certificate is not trusted.

    """
    connection = connect()
    seconds = cast("float | None", getattr(connection, "socket_connect_timeout", None))
    try:
        # redis-py waits so long for the connection only, and without end for the first answers.
        async with asyncio.timeout(seconds):
            await connection.connect()
    except asyncio.CancelledError:
        await connection.disconnect(nowait=True)
        raise
    except TimeoutError:
        await connection.disconnect(nowait=True)
        raise Unavailable(
            f"The server at {where} did not answer within {seconds:g} s, as the connection was opened"
        ) from None
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
    """Return the reason why a server's certificate was refused, if it was the cause of an error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def raise_for(error: RedisError) -> NoReturn:
    """Raise what a failed call means to the application; other error replies are bugs and stay what they are."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        raise ServerFull from error
    if isinstance(error, TRANSIENT) or text.startswith(TRANSIENT_CODES):
        raise Unavailable(f"The server cannot take this now: {text}") from error
    if isinstance(error, NoPermissionError) or any(denied in text for denied in DENIED_IN_SCRIPTS):
        raise ConfigurationError(f"The server does not permit this user a command it needs: {text}") from error
    raise error


def pack(words: Sequence[Word]) -> bytes:
    """Return a command as the server reads it; redis-py's own packing is Python and takes most of a producer's time."""
    return cast("Callable[[Sequence[Word]], bytes]", hiredis.pack_command)(tuple(words))


def cut(connection: AbstractConnection) -> None:
    """End a connection at once; its user, if it has one, learns of it as of any loss."""
    writer = connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if writer is not None:
        writer.transport.abort()
        connection._close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


PING = pack(("PING",))


async def answer(connection: AbstractConnection) -> Any:  # noqa: ANN401 - whatever the server answers
    """Return the next answer on a connection, however long it takes; an error reply is raised."""
    read = cast("Callable[..., Awaitable[Any]]", connection.read_response)
    return await read(timeout=math.inf)


class Patience(NamedTuple):
    """How long to wait, in seconds: for an answer (`response`), and while nothing at all comes (`heartbeat`)."""

    response: float
    heartbeat: float


class PipelinedConnection:
    """A connection that many share: they do not wait for each other, and answers come in order."""

    def __init__(self, open_: Open, where: str, patience: Patience, left: Callable[[], None]) -> None:
        """Take what opens connections, and the server's name for errors.

        `left` is called when the server is left: it does not answer, or was demoted.
        """
        self._open = open_
        self._where = where
        self._timeout = patience.response
        self._heartbeat = patience.heartbeat
        self._left = left
        self._wire: Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._waiting: deque[tuple[asyncio.Future[Any] | None, float]] = deque()
        """The calls that wait for the next answers, and their deadlines."""
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    async def call(self, *words: Word) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command and return its answer, bytes where it is text.

        Raises:
            Unavailable: the connection was lost or no answer came in time: it is not known whether it was carried out.
            ResponseError: the server answered with an error that is not transient.

        """
        try:
            return await self.call_once(*words)
        except LostError as lost:
            if words[0] not in READS or self._closed:
                raise Unavailable(str(lost)) from lost
        try:
            return await self.call_once(*words)
        except LostError as lost:
            raise Unavailable(str(lost)) from lost

    async def call_once(self, *words: Word) -> Any:  # noqa: ANN401 - whatever the server answers
        """Do what `call` does, but ask nothing again, and raise `LostError` where the connection was lost."""
        return await self._answer_to(pack(words))

    async def call_asking(self, *words: Word) -> Any:  # noqa: ANN401 - whatever the server answers
        """Do what `call` does, on a node of a cluster that is about to get the key's slot."""
        try:
            return await self._answer_to(pack(("ASKING",)) + pack(words), ahead=1)
        except LostError as lost:
            raise Unavailable(str(lost)) from lost

    @property
    def where(self) -> str:
        """The server, without a password."""
        return self._where

    @property
    def idle(self) -> bool:
        """Return whether no call waits for an answer."""
        return not self._waiting

    async def aclose(self) -> None:
        """Close the connection for good; calls that wait for an answer get `Unavailable`."""
        self._closed = True
        opening, wire = self._opening, self._wire
        self._fail(Unavailable(f"The connection to {self._where} was closed"))
        if opening is not None:
            await asyncio.wait([opening])
        if wire is not None:
            await wire.aclose()

    async def _answer_to(self, packed: bytes, ahead: int = 0) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command and return its answer; no call waits for the `ahead` answers before it."""
        if self._closed:
            raise Unavailable(f"The connection to {self._where} was closed: open a new client")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting += [(None, deadline)] * ahead
        self._waiting.append((future, deadline))
        if self._watch is None:
            self._watch = loop.call_at(deadline, self._look)
        self._send(packed)
        try:
            return await future
        except RedisError as error:
            raise_for(error)

    def _send(self, packed: bytes) -> None:
        if self._wire is not None:
            self._wire.send(packed)
            return
        self._unsent.append(packed)
        if self._opening is None:
            self._opening = asyncio.create_task(self._connect(), name="turnstream-connection")

    async def _connect(self) -> None:
        """Open the connection and send the queued commands; if that fails, their calls fail."""
        try:
            connection = await self._open()
        except (Unavailable, ConfigurationError) as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must learn of it
            self._lost(error)
        else:
            self._opening = None
            self._wire = Transport(connection, self._answered, self._lost)
            self._wire.watch(self._heartbeat, self._asked_at, self._ping)
            self._wire.send(b"".join(self._unsent))
            self._unsent.clear()

    def _answered(self, answer: Any) -> None:  # noqa: ANN401 - whatever the server answers
        future, _ = self._waiting.popleft()
        if future is not None and not future.done():
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if isinstance(answer, ReadOnlyError):
            # It was demoted; a new connection may lead to its successor.
            self._fail(Unavailable(f"The connection to {self._where} was closed"))
            self._left()

    def _asked_at(self) -> float | None:
        return self._waiting[0][1] - self._timeout if self._waiting else None

    def _ping(self) -> None:
        """Ask whether the connection is alive; no call waits for the answer."""
        self._waiting.append((None, asyncio.get_running_loop().time() + self._timeout))
        self._send(PING)

    def _look(self) -> None:
        """Give the connection up if the oldest answer is overdue; so one timer serves for all."""
        self._watch = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            _, deadline = self._waiting[0]
            if loop.time() >= deadline:
                self._fail(LostError(f"The server at {self._where} did not answer within {self._timeout:g} s"))
                self._left()
            else:
                self._watch = loop.call_at(deadline, self._look)

    def _lost(self, error: Exception) -> None:
        self._fail(LostError(f"The connection to {self._where} was lost: {error}"))
        if isinstance(error, RedisTimeoutError):
            self._left()

    def _fail(self, reason: Exception) -> None:
        """Close the connection and fail all waiting calls; the next call opens a new one."""
        wire, opening, watch, waiting = self._wire, self._opening, self._watch, self._waiting
        self._wire = self._opening = self._watch = None
        self._waiting = deque()
        self._unsent.clear()
        if wire is not None:
            wire.close()
        if opening is not None:
            opening.cancel()
        if watch is not None:
            watch.cancel()
        for future, _ in waiting:
            if future is not None and not future.done():
                future.set_exception(reason)
