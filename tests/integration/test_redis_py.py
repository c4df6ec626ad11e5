"""The parts of redis-py that are not its public API and that `adapters/redis/connection` uses, one test for each.

`make test` runs them on the newest version and `make test-lowest` on the lowest one.
"""

import ast
import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, Connection, DefaultParser, SSLConnection

from turnstream.adapters import redis as redis_adapter
from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.adapters.redis.connection.addresses import read_url
from turnstream.adapters.redis.connection.name_resolution import ResolvingConnection, ResolvingSSLConnection
from turnstream.adapters.redis.connection.pipelined import Transport

FOLDER = Path(redis_adapter.__file__).parent
PUBLIC = {"_asdict", "_replace"}
"""Public methods of a named tuple."""

READ = {"_writer", "_close"}
"""Private attributes of a connection that are read or called."""

OVERRIDDEN = {"_connect", "_connection_arguments"}
"""Private methods of a connection that a class of the adapter overrides."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with start_embedded_server() as started:
        yield started


@pytest.fixture
async def connection(server: EmbeddedServer) -> AsyncIterator[AbstractConnection]:
    opened = read_url(server.url, 5.0, "test", 15.0).connector()()
    await opened.connect()
    yield opened
    await opened.disconnect(nowait=True)


def writer_of(connection: AbstractConnection) -> asyncio.StreamWriter | None:
    return cast("asyncio.StreamWriter | None", cast("Any", connection)._writer)


def private_names() -> Iterator[str]:
    """The private attributes of other objects that the adapter uses."""
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
                owner = ast.unparse(node.value)
                if owner not in {"self", "cls", "super()"}:
                    yield node.attr


def test_the_private_parts_in_use_are_those_tested_here() -> None:
    assert set(private_names()) - PUBLIC == READ
    methods = {**vars(ResolvingConnection), **vars(ResolvingSSLConnection)}
    inherited = {name for name in dir(SSLConnection) if name.startswith("_") and not name.endswith("__")}
    assert methods.keys() & inherited - {"_abc_impl"} == OVERRIDDEN


async def test_an_open_connection_has_a_writer_with_a_transport(connection: AbstractConnection) -> None:
    writer = writer_of(connection)
    assert isinstance(writer, asyncio.StreamWriter)
    assert isinstance(writer.transport, asyncio.Transport)
    assert not writer.transport.is_closing()


async def test_after_connect_another_protocol_receives_every_byte(connection: AbstractConnection) -> None:
    replies: asyncio.Queue[Any] = asyncio.Queue()
    transport = Transport(connection, replies.put_nowait, replies.put_nowait)
    transport.send(b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n*1\r\n$7\r\nUNKNOWN\r\n")
    async with asyncio.timeout(30):
        assert await replies.get() == b"a"
        assert isinstance(await replies.get(), exceptions.ResponseError)
    await transport.aclose()
    assert replies.empty()


async def test_a_connection_is_closed_without_a_task(connection: AbstractConnection) -> None:
    writer = writer_of(connection)
    assert writer is not None
    tasks = asyncio.all_tasks()
    cast("Any", connection)._close()
    assert writer.transport.is_closing()
    assert not connection.is_connected
    assert writer_of(connection) is None
    assert asyncio.all_tasks() == tasks


async def test_a_connection_that_is_not_open_has_no_writer_and_can_be_closed() -> None:
    connection = Connection()
    assert writer_of(connection) is None
    cast("Any", connection)._close()


async def test_connect_uses_the_overridden_methods() -> None:
    calls: list[str] = []

    class Recording(Connection):
        def _connection_arguments(self) -> Mapping[str, Any]:
            calls.append("_connection_arguments")
            return {**super()._connection_arguments(), "host": "127.0.0.1"}

        async def _connect(self) -> None:
            calls.append("_connect")
            await cast("Any", super())._connect()

    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    connection = Recording(host="name.invalid", port=listener.sockets[0].getsockname()[1], socket_connect_timeout=30)
    async with listener:
        # The server closes the connection in place of an answer; the name is never looked up.
        with pytest.raises(exceptions.ConnectionError, match=r"closed|lost"):
            await cast("Any", connection).connect()
    assert calls[:2] == ["_connect", "_connection_arguments"]
    await connection.disconnect(nowait=True)


def test_the_arguments_name_the_host_and_of_tls_the_context() -> None:
    arguments = cast("Mapping[str, Any]", cast("Any", Connection(host="h", port=1))._connection_arguments())
    assert arguments == {"host": "h", "port": 1}
    arguments = cast("Mapping[str, Any]", cast("Any", SSLConnection(host="h", port=1))._connection_arguments())
    assert arguments.keys() >= {"host", "port", "ssl"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("OOM command not allowed", exceptions.OutOfMemoryError),
        ("NOSCRIPT No matching script", exceptions.NoScriptError),
        ("READONLY You can't write", exceptions.ReadOnlyError),
        ("NOPERM no permissions", exceptions.NoPermissionError),
        ("LOADING Redis is loading", exceptions.BusyLoadingError),
        ("MOVED 1 127.0.0.1:1", exceptions.MovedError),
        ("ASK 1 127.0.0.1:1", exceptions.AskError),
        ("CLUSTERDOWN down", exceptions.ClusterDownError),
        ("TRYAGAIN later", exceptions.TryAgainError),
        ("MASTERDOWN link", exceptions.MasterDownError),
        ("FENCED token", exceptions.ResponseError),
    ],
)
def test_the_parser_gives_each_error_reply_its_class(text: str, error: type[Exception]) -> None:
    parsed = cast("Exception", cast("Any", DefaultParser).parse_error(text))
    assert type(parsed) is error


async def test_a_response_is_awaited_without_limit_and_the_time_to_connect_is_known(
    connection: AbstractConnection,
) -> None:
    assert cast("Any", connection).socket_connect_timeout == 5.0
    reading = asyncio.create_task(cast("Any", connection).read_response(timeout=math.inf))
    await connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"])
    async with asyncio.timeout(30):
        assert await reading == b"PONG"
