"""An HTTP endpoint on loopback, as hostile as a test wants it; the convention's library verifies each signature."""

import asyncio
import gzip
import socket
import ssl
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any, NamedTuple

from standardwebhooks import Webhook

from turnstream_relay.signatures import new_secret


class Received(NamedTuple):
    """A request whose signature was right."""

    headers: Mapping[str, str]
    body: Any
    attempt: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Reply(NamedTuple):
    """An answer: after `delay` seconds, and only the first `cut` bytes of it; then the connection is closed."""

    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    delay: float = 0.0
    cut: int | None = None


Behaviour = Callable[[Received], Reply]


def well(_: Received) -> Reply:
    return Reply()


def always(reply: Reply) -> Behaviour:
    return lambda _: reply


class Receiver:
    """Keeps what it answered with 2xx, in the order in which it came."""

    def __init__(self, behaviour: Behaviour = well, secret: str | None = None) -> None:
        self.behaviour = behaviour
        self.secret = secret or new_secret()
        self.inflates = True
        self.taken: list[Received] = []
        self.refused: list[Received] = []
        self.forged = 0
        self.open = 0
        self.most_open = 0
        self.connections = 0
        self.url = ""
        self._attempts = Counter[str]()
        self._socket: socket.socket | None = None

    def reserve(self) -> "Receiver":
        """Take a port that refuses connections until it serves."""
        self._socket = _bound()
        self.url = f"http://localhost:{self._socket.getsockname()[1]}/hooks"
        return self

    @asynccontextmanager
    async def serving(self, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator["Receiver"]:
        self._socket = self._socket or _bound()
        server = await asyncio.start_server(self._serve, sock=self._socket, ssl=tls)
        self.url = f"http{'s' if tls else ''}://localhost:{self._socket.getsockname()[1]}/hooks"
        try:
            yield self
        finally:
            server.close()
            for task in [each for each in asyncio.all_tasks() if each.get_name() == f"receiver {id(self)}"]:
                task.cancel()

    def close(self) -> None:
        """Give a reserved port back."""
        if self._socket:
            self._socket.close()

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])

    @property
    def ids(self) -> list[str]:
        return [received.id for received in self.taken]

    def of_sessions(self) -> dict[str, list[int]]:
        """Return the sequences that each session's events came with."""
        found = defaultdict[str, list[int]](list)
        for received in self.taken:
            if "sessionId" in received.body:
                found[received.body["sessionId"]].append(received.body["sequence"])
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        task.set_name(f"receiver {id(self)}")
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        content = await reader.readexactly(int(headers["content-length"]))
        received = self._verified(headers, content)
        reply = self.behaviour(received) if received else Reply(401)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(reply.delay)
        finally:
            self.open -= 1
        response = _response(reply)
        writer.write(response if reply.cut is None else response[: reply.cut])
        await writer.drain()
        if received:
            (self.taken if 200 <= reply.status < 300 else self.refused).append(received)
        return reply.cut is None

    def _verified(self, headers: Mapping[str, str], content: bytes) -> Received | None:
        try:
            compressed = headers.get("content-encoding") == "gzip" and self.inflates
            body = gzip.decompress(content) if compressed else content
            decoded = Webhook(self.secret).verify(body, dict(headers))
        except Exception:  # noqa: BLE001 - whatever is wrong with it
            self.forged += 1
            return None
        self._attempts[headers["webhook-id"]] += 1
        return Received(headers, decoded, self._attempts[headers["webhook-id"]])


def _bound() -> socket.socket:
    """Return a socket with a free port, at which connections are refused until it listens."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


def _response(reply: Reply) -> bytes:
    headers = {"content-length": str(len(reply.body)), **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} x", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + reply.body
