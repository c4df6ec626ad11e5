"""A TCP proxy between programs and the server, which does what networks do: it delays, cuts, and loses replies."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

CHUNK = 65_536


class Proxy:
    """Forwards every connection to a server's port.

    With `drop_replies` a request is forwarded, and the connection cut in place of the answer: whoever asked cannot know
    what became of it. Every chunk waits for `delay` seconds. A connection over which something comes while it is
    `silent` is dead from then on, and neither end is told.
    """

    def __init__(self, port: int) -> None:
        self.drop_replies = False
        self.silent = False
        self.delay = 0.0
        self.dropped = 0
        self.swallowed = 0
        self._target = port
        self._writers: set[StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)

    def lead_to(self, port: int) -> None:
        """Lead new connections to another server."""
        self._target = port

    def cut(self) -> int:
        """Cut every connection at once; return how many there were."""
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    async def aclose(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, server_writer}
        self._writers |= ends
        requests = asyncio.create_task(self._forward(reader, server_writer, replies=False))
        replies = asyncio.create_task(self._forward(server_reader, writer, replies=True))
        try:
            await asyncio.wait([requests, replies], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()
            for task in (requests, replies):
                task.cancel()

    async def _forward(self, source: StreamReader, target: StreamWriter, *, replies: bool) -> None:
        is_dead = False
        with suppress(OSError):
            while data := await source.read(CHUNK):
                is_dead = is_dead or self.silent
                if is_dead:
                    self.swallowed += 1
                    continue
                if self.delay:
                    await asyncio.sleep(self.delay)
                if replies and self.drop_replies:
                    self.dropped += 1
                    return
                target.write(data)
                await target.drain()
