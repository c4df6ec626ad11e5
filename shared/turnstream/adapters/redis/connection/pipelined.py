"""A connection that many calls share, without streams and tasks: replies are handled where they are received."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from turnstream.adapters.redis.connection.connector import Open, raise_for
from turnstream.adapters.redis.connection.heartbeat import Heartbeat
from turnstream.errors import ConfigurationError, Unavailable

Word = str | bytes | int | float
READS = frozenset(
    {
        *("EVALSHA_RO", "EVAL_RO", "FCALL_RO", "EXISTS", "HEXISTS", "HGET", "HGETALL", "INFO", "SMEMBERS", "TIME"),
        *("XRANGE", "ZCARD", "ZRANGE"),
    }
)
"""Commands that change nothing: where their answer was lost they are asked once more."""


class LostError(Exception):
    """A connection that was open was lost, or is dead: it is not known whether what was asked was carried out."""


def pack(words: Sequence[Word]) -> bytes:
    """Return a command as the server reads it; redis-py's own packing is Python and takes most of a producer's time."""
    return cast("Callable[[Sequence[Word]], bytes]", hiredis.pack_command)(tuple(words))


PING = pack(("PING",))


class Patience(NamedTuple):
    """How long to wait, in seconds: for an answer (`response`), and while nothing at all comes (`heartbeat`)."""

    response: float
    heartbeat: float


CLOSE_TIMEOUT_S = 1.0
"""Seconds to wait until an encrypted connection is closed."""

_NOTHING = object()


class Transport(asyncio.Protocol):
    """Takes over an open connection of redis-py that has no request in flight.

    redis-py reads from a stream, in a task that must be woken. That takes longer than the rest of a short request.
    """

    def __init__(
        self, connection: AbstractConnection, on_reply: Callable[[Any], None], on_lost: Callable[[RedisError], None]
    ) -> None:
        """Call `on_reply` with each reply, and `on_lost` once when the connection has ended.

        Args:
            connection: the open connection.
            on_reply: called with each reply; an error reply is passed as an exception.
            on_lost: called with the reason; not called after `close`.

        """
        self.on_reply = on_reply
        self._on_lost = on_lost
        self._connection = connection
        self._gone = asyncio.Event()
        error_of = cast("Callable[[str], Exception]", DefaultParser.parse_error)
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=error_of, notEnoughData=_NOTHING)
        writer = cast("asyncio.StreamWriter", connection._writer)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._transport = writer.transport
        self._transport.set_protocol(self)
        self._loop = asyncio.get_running_loop()
        self.received_at = self._loop.time()
        """The event loop's time of the last bytes received, in seconds."""
        self._heartbeat: Heartbeat | None = None

    def watch(self, heartbeat: float, asked_at: Callable[[], float | None], ask: Callable[[], None]) -> None:
        """Detect a dead connection by heartbeats, and end it; the arguments are those of `Heartbeat`."""
        self._heartbeat = Heartbeat(self, heartbeat, asked_at, ask)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed, so that nothing can be sent."""
        return self._transport.is_closing()

    def send(self, packed: bytes) -> None:
        """Send one or several commands. On a closed connection this does nothing: `on_lost` reports the loss."""
        if not self._transport.is_closing():
            self._transport.write(packed)

    async def aclose(self) -> None:
        """Close the connection without calling `on_lost`; wait up to `CLOSE_TIMEOUT_S` seconds for the end."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._gone.wait()

    def close(self) -> None:
        """Close the connection without calling `on_lost`."""
        self.on_reply = self._on_lost = _ignore
        if self._heartbeat is not None:
            self._heartbeat.stop()
        # `disconnect`, the public method, is a coroutine and would need a task.
        self._connection._close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def give_up(self, reason: str) -> None:
        """Abort a dead connection, discard its unsent bytes, and call `on_lost` with the reason."""
        transport = self._transport
        self._end(RedisTimeoutError(reason))
        transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and call `on_reply` with each complete reply."""
        self.received_at = self._loop.time()
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOTHING:
                if isinstance(answer, RedisConnectionError):
                    raise answer  # noqa: TRY301 - it concerns the whole connection, for example while the server loads
                self.on_reply(answer)
        except Exception as error:  # noqa: BLE001 - after any failure the position in the byte stream is unknown
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Call `on_lost`: the connection has ended."""
        self._gone.set()
        self._end(exc or RedisConnectionError("closed by the server"))

    def _end(self, error: Exception) -> None:
        on_lost = self._on_lost
        self.close()
        on_lost(error if isinstance(error, RedisError) else RedisConnectionError(repr(error)))


def _ignore(_: object) -> None:
    pass


class PipelinedConnection:
    """A connection that many share: they do not wait for each other, and answers come in order."""

    def __init__(self, open_: Open, where: str, patience: Patience, on_unusable: Callable[[], None]) -> None:
        """Take what opens connections, and the server's name for errors.

        `on_unusable` is called when the server does not answer, or was demoted.
        """
        self._open = open_
        self._where = where
        self._timeout = patience.response
        self._heartbeat = patience.heartbeat
        self._on_unusable = on_unusable
        self._transport: Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._waiting: deque[tuple[asyncio.Future[Any] | None, float]] = deque()
        """The calls that wait for the next answers, and their deadlines."""
        self._timer: asyncio.TimerHandle | None = None
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
        opening, transport = self._opening, self._transport
        self._fail(Unavailable(f"The connection to {self._where} was closed"))
        if opening is not None:
            await asyncio.wait([opening])
        if transport is not None:
            await transport.aclose()

    async def _answer_to(self, packed: bytes, ahead: int = 0) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command and return its answer; no call waits for the `ahead` answers before it."""
        if self._closed:
            raise Unavailable(f"The connection to {self._where} was closed: open a new client")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting += [(None, deadline)] * ahead
        self._waiting.append((future, deadline))
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._check_deadline)
        self._send(packed)
        try:
            return await future
        except RedisError as error:
            raise_for(error)

    def _send(self, packed: bytes) -> None:
        if self._transport is not None:
            self._transport.send(packed)
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
            self._transport = Transport(connection, self._receive, self._lost)
            self._transport.watch(self._heartbeat, self._asked_at, self._ping)
            self._transport.send(b"".join(self._unsent))
            self._unsent.clear()

    def _receive(self, answer: Any) -> None:  # noqa: ANN401 - whatever the server answers
        future, _ = self._waiting.popleft()
        if future is not None and not future.done():
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if isinstance(answer, ReadOnlyError):
            # It was demoted; a new connection may lead to its successor.
            self._fail(Unavailable(f"The connection to {self._where} was closed"))
            self._on_unusable()

    def _asked_at(self) -> float | None:
        return self._waiting[0][1] - self._timeout if self._waiting else None

    def _ping(self) -> None:
        """Ask whether the connection is alive; no call waits for the answer."""
        self._waiting.append((None, asyncio.get_running_loop().time() + self._timeout))
        self._send(PING)

    def _check_deadline(self) -> None:
        """Give the connection up if the oldest answer is overdue; so one timer serves for all."""
        self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            _, deadline = self._waiting[0]
            if loop.time() >= deadline:
                self._fail(LostError(f"The server at {self._where} did not answer within {self._timeout:g} s"))
                self._on_unusable()
            else:
                self._timer = loop.call_at(deadline, self._check_deadline)

    def _lost(self, error: Exception) -> None:
        self._fail(LostError(f"The connection to {self._where} was lost: {error}"))
        if isinstance(error, RedisTimeoutError):
            self._on_unusable()

    def _fail(self, reason: Exception) -> None:
        """Close the connection and fail all waiting calls; the next call opens a new one."""
        transport, opening, timer, waiting = self._transport, self._opening, self._timer, self._waiting
        self._transport = self._opening = self._timer = None
        self._waiting = deque()
        self._unsent.clear()
        if transport is not None:
            transport.close()
        if opening is not None:
            opening.cancel()
        if timer is not None:
            timer.cancel()
        for future, _ in waiting:
            if future is not None and not future.done():
                future.set_exception(reason)
