"""`Worker.connect`: a worker in one's own program, from public names only."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.waiting import SOON, wait_until

from turnstream import CreateSession, SessionConfig, Turnstream, Unavailable, Worker
from turnstream.errors import ConfigurationError

CONFIG = SessionConfig("openai", "gpt-4")


@pytest.fixture
def url(real: EmbeddedDeployment) -> str:
    return real.settings.redis_url.get_secret_value()


async def test_a_worker_applies_commands(real: EmbeddedDeployment, url: str) -> None:
    async with Worker.connect(url, settings=real.settings) as worker:
        running = asyncio.create_task(worker.run())
        await worker.ready.wait()
        async with Turnstream.connect(url, settings=real.settings) as ts:
            assert (await ts.execute(CreateSession(CONFIG, "s"))).version == 1
            assert [info.id async for info in ts.admin.workers.list()] == [worker.worker_id]
            worker.stop()
            await asyncio.wait_for(running, SOON)
            assert [info async for info in ts.admin.workers.list()] == []


async def test_leaving_the_block_ends_the_run(real: EmbeddedDeployment) -> None:
    async with Worker.connect(settings=real.settings) as worker:
        running = asyncio.create_task(worker.run())
        await worker.ready.wait()
    assert running.done()
    async with Turnstream.connect(settings=real.settings) as ts:
        assert [info async for info in ts.admin.workers.list()] == []


async def test_a_worker_that_was_silent_for_longer_than_its_lease_is_not_listed(real: EmbeddedDeployment) -> None:
    async with Worker.connect(settings=real.settings) as worker:
        running = asyncio.create_task(worker.run())
        await worker.ready.wait()
        await real.call("HSET", real.keys.workers, "silent:000000", "1000 1:1")
        async with Turnstream.connect(settings=real.settings) as ts:
            assert [info.id async for info in ts.admin.workers.list()] == [worker.worker_id]
        worker.stop()
        await running


async def test_a_worker_that_never_ran_can_be_closed(real: EmbeddedDeployment) -> None:
    worker = await Worker.connect(settings=real.settings)
    await worker.aclose()


async def test_closing_while_it_starts(real: EmbeddedDeployment) -> None:
    worker = await Worker.connect(settings=real.settings)
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    await worker.aclose()
    await wait_until(running.done)
    await running


async def test_no_server(real: EmbeddedDeployment) -> None:
    with pytest.raises(Unavailable):
        await Worker.connect("redis://127.0.0.1:1", settings=real.settings)


async def test_a_catalogue_that_cannot_be_read(real: EmbeddedDeployment) -> None:
    settings = replace(real.settings, catalogue_file=Path("/nowhere/models.toml"))
    with pytest.raises(ConfigurationError, match=r"/nowhere/models\.toml"):
        await Worker.connect(settings=settings)
