"""Connections by TLS: the server's certificate is verified. The test's proxy ends the encryption here."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme
from tests.contract.chats import CONFIG
from tests.contract.hearing import take_one
from tests.topologies import SERVICE, Node, _started

from turnstream import AddMessage, CreateSession, Turnstream, user_message
from turnstream.adapters.embedded import EmbeddedServer
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.catalogue import default_catalogue
from turnstream.errors import ConfigurationError
from turnstream.events import MessageAdded
from turnstream.settings import Settings
from turnstream.worker.worker import Worker


@asynccontextmanager
async def encrypted(
    server: EmbeddedServer | Node, authority: trustme.CA, name: str = "127.0.0.1"
) -> AsyncGenerator[int]:
    """Give the port on which the server is reached by TLS, with a certificate of an authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    port = int(server.url.rpartition(":")[2])

    async def forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(forward(reader, behind_writer), forward(behind_reader, writer))

    proxy = await asyncio.start_server(serve, "127.0.0.1", ssl=context)
    try:
        yield proxy.sockets[0].getsockname()[1]
    finally:
        proxy.close()


def written(authority: trustme.CA, folder: Path) -> Path:
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@asynccontextmanager
async def itself(port: int, _: trustme.CA) -> AsyncGenerator[str]:
    yield f"rediss://127.0.0.1:{port}"


@asynccontextmanager
async def behind_a_sentinel(port: int, authority: trustme.CA) -> AsyncGenerator[str]:
    """A Sentinel reached by TLS, too; it takes its primary for down, and still names it."""
    with ExitStack() as started:
        config = f"sentinel monitor {SERVICE} 127.0.0.1 {port} 2\n"
        sentinel = _started(started, "--sentinel", "--bind", "127.0.0.1", config=config)
        async with encrypted(sentinel, authority) as encrypted_port:
            yield f"rediss+sentinel://127.0.0.1:{encrypted_port}/{SERVICE}"


@pytest.mark.parametrize("reached", [itself, behind_a_sentinel])
async def test_a_worker_a_client_and_a_subscriber_work_by_tls(
    empty_server: EmbeddedServer,
    tmp_path: Path,
    reached: Callable[[int, trustme.CA], AbstractAsyncContextManager[str]],
) -> None:
    authority = trustme.CA()
    async with encrypted(empty_server, authority) as port, reached(port, authority) as base:
        url = f"{base}?ssl_ca_certs={written(authority, tmp_path)}"
        settings = Settings(namespace="tls", partitions=2).at(url)
        backend = await RedisBackend.open(settings, "worker", works=True)
        worker = Worker(backend, settings, default_catalogue())
        working = asyncio.create_task(worker.run())
        async with Turnstream.connect(settings=settings) as ts, ts.subscribe(MessageAdded) as events:
            await ts.execute(CreateSession(CONFIG, "s"))
            await ts.execute(AddMessage("s", user_message("one")))
            assert (await take_one(events)).version == 2
        worker.stop()
        await working
        await backend.aclose()


async def test_a_certificate_that_is_not_trusted_is_refused_for_good(
    empty_server: EmbeddedServer, tmp_path: Path
) -> None:
    async with encrypted(empty_server, trustme.CA()) as port:
        for query in (f"?ssl_ca_certs={written(trustme.CA(), tmp_path)}", ""):
            with pytest.raises(ConfigurationError, match=r"not trusted .*: name the\sauthority .*ssl_ca_certs"):
                await Turnstream.connect(f"rediss://127.0.0.1:{port}{query}")
