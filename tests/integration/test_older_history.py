"""The server returns with less than it had, and no command follows: owners notice, and subscribers are notified."""

import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from tests.contract.chats import a_session, texts_of
from tests.contract.deployments import client_of
from tests.contract.hearing import take, take_resync
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.integration.hostile import written
from tests.waiting import wait_until

from turnstream import AddMessage, user_message
from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.client.subscriptions import feed
from turnstream.settings import Settings

LATER = AddMessage("s", user_message("later"))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often whether anything was missed."""
    monkeypatch.setattr(feed, "HEAD_CHECK_INTERVAL_S", 0.1)


class Restored:
    """A deployment on a server whose files are kept, and put back when more has happened."""

    def __init__(self, folder: Path) -> None:
        self._files, self._older = folder / "files", folder / "older"
        self._files.mkdir()
        self._running = ExitStack()
        server = self._start(self._files)
        self._port = server.port
        self.real = EmbeddedDeployment(Settings(namespace="older", partitions=1, lease=1.0).at(server.url))

    def keep_files(self) -> None:
        # Also what is not synced yet is in the page cache, as the server writes before it answers.
        shutil.copytree(self._files, self._older)

    async def put_back(self, change: Callable[[Redis], object]) -> None:
        """Start the server on the older files, with a change that no client sees happen."""
        self._running.close()
        with start_embedded_server(self._older) as behind, Redis.from_url(behind.url) as raw:
            change(raw)
        await self.real.raw.connection_pool.disconnect()
        self._start(self._older, self._port)

    async def aclose(self) -> None:
        await self.real.aclose()
        self._running.close()

    def _start(self, files: Path, port: int | None = None) -> EmbeddedServer:
        running: AbstractContextManager[EmbeddedServer] = start_embedded_server(files, port=port)
        return self._running.enter_context(running)


@asynccontextmanager
async def restored(folder: Path) -> AsyncGenerator[Restored]:
    site = Restored(folder)
    try:
        yield site
    finally:
        await site.aclose()


async def test_a_command_that_has_survived_its_commit_is_applied_again(tmp_path: Path) -> None:
    """The owner believes to have applied it: its position equals the owner's cursor."""
    async with restored(tmp_path) as site:
        real, keys = site.real, site.real.keys.partitions[0]
        worker = await worker_of(real)
        client = await client_of(real, worker=False)
        await a_session(client, "one", session_id="s")
        site.keep_files()
        await client.execute(LATER)
        cursor = await real.call("HGET", keys.partition, "cursor")
        fields = chain.from_iterable(written("later", LATER).items())

        def queue(raw: Any) -> None:  # noqa: ANN401 - the words of a command
            raw.execute_command("XADD", keys.commands, cursor, *fields)

        await site.put_back(queue)
        await wait_until(lambda: _is_empty(real))
        assert texts_of(await client.sessions.messages("s")) == ["one", "later"]
        assert not worker.task.done()


async def _is_empty(real: EmbeddedDeployment) -> bool:
    return await real.backlog(0) == 0


async def test_a_subscriber_is_notified_although_nothing_happens(tmp_path: Path) -> None:
    async with restored(tmp_path) as site:
        await worker_of(site.real)
        client = await client_of(site.real, worker=False)
        await a_session(client, session_id="s")
        async with client.subscribe() as events:
            site.keep_files()
            await client.execute(LATER)
            (seen,) = await take(events, 1)
            await site.put_back(lambda _: None)
            gone = await take_resync(events)
            assert (gone.partition, seen.version) == (0, 2)
