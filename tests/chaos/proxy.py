"""A TCP proxy between programs and the server, which does what networks do: it delays, cuts, loses and swallows."""

import asyncio
import math
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from time import monotonic
from typing import Literal

CHUNK = 65_536

Swallowed = Literal["both", "requests", "replies"]
"""The directions that a swallowing connection loses: both or one."""


class Proxy:
    """Forwards every connection to a server's port.

    With `drop_replies` a request is forwarded and the connection is cut instead of the reply, so the client cannot
    know the result. Every chunk waits for `delay` seconds. A connection that transfers something while the proxy is
    `silent` is dead from then on, and neither end notices. One that is idle for `forgets_after` seconds is forgotten:
    it loses everything sent later.
    """

    def __init__(self, port: int, at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        """Lead to a server's port, and listen at an address."""
        self.drop_replies = False
        self.silent = False
        self.delay = 0.0
        self.forgets_after = math.inf
        self.dropped = 0
        self.swallowed = 0
        self._target = port
        self._at = at
        self._connections: dict[_Connection, None] = {}
        """In the order in which they were opened."""
        self._handling: set[asyncio.Task[None]] = set()
        self._closed = False
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"redis://{self._at[0]}:{self.port}"

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    @property
    def swallowing(self) -> int:
        """The number of swallowing connections that their clients have not given up yet."""
        return sum(connection.swallows is not None for connection in self._connections)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, *self._at)

    def lead_to(self, port: int) -> None:
        """Lead new connections to another server."""
        self._target = port

    def cut(self) -> int:
        """Cut every connection at once; return how many there were."""
        connections = list(self._connections)
        for connection in connections:
            connection.cut()
        return len(connections)

    def swallow(self, what: Swallowed = "both", name: str = "") -> int:
        """Have every connection swallow what is sent, and keep it open; return how many there are. New ones are well.

        With a `name` only those of clients that call themselves so.
        """
        chosen = [connection for connection in self._connections if name.encode() in connection.beginning]
        for connection in chosen:
            connection.swallows = what
        return len(chosen)

    def swallow_oldest(self, what: Swallowed = "both") -> None:
        """Do the same to the connection that was opened first of those that do not swallow yet."""
        next(connection for connection in self._connections if connection.swallows is None).swallows = what

    async def aclose(self) -> None:
        """End it, and return when all its connections are closed."""
        assert self._server is not None
        self._closed = True
        self._server.close()
        self.cut()
        while self._handling:
            await asyncio.wait(self._handling)
        await self._server.wait_closed()

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            await _Connection(writer).ended()
            return
        connection = _Connection(writer, server_writer)
        if self._closed:
            await connection.ended()
            return
        self._connections[connection] = None
        requests = asyncio.create_task(self._forward(connection, reader, server_writer, replies=False))
        replies = asyncio.create_task(self._forward(connection, server_reader, writer, replies=True))
        try:
            await asyncio.wait([requests, replies], return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._connections[connection]
            for forwarding in (requests, replies):
                forwarding.cancel()
            await connection.ended()

    async def _forward(
        self, connection: "_Connection", source: StreamReader, target: StreamWriter, *, replies: bool
    ) -> None:
        is_dead = False
        with suppress(OSError):
            while data := await source.read(CHUNK):
                connection.note(data, request=not replies, forgets_after=self.forgets_after)
                is_dead = is_dead or self.silent
                if is_dead or connection.swallows in ("both", "replies" if replies else "requests"):
                    self.swallowed += 1
                    continue
                if self.delay:
                    await asyncio.sleep(self.delay)
                if replies and self.drop_replies:
                    self.dropped += 1
                    return
                target.write(data)
                await target.drain()


class _Connection:
    """Its two ends, and what happens to it."""

    def __init__(self, *ends: StreamWriter) -> None:
        self.swallows: Swallowed | None = None
        self.beginning = b""
        """The first bytes of the client, which include its name."""
        self._ends = ends
        self._used_at = monotonic()

    def note(self, data: bytes, *, request: bool, forgets_after: float) -> None:
        """Note what goes over it, and whether that comes too late."""
        now = monotonic()
        if now - self._used_at > forgets_after:
            self.swallows = "both"
        self._used_at = now
        if request and len(self.beginning) < CHUNK:
            self.beginning += data

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def ended(self) -> None:
        """Cut it, and return when both ends are closed."""
        self.cut()
        await asyncio.gather(*(end.wait_closed() for end in self._ends), return_exceptions=True)
