"""The proxy of the runs: it forwards, delays, cuts, and loses replies."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.chaos.proxy import Proxy, Swallowed
from tests.waiting import wait_until

from turnstream.adapters.embedded import EmbeddedServer

KEY = "proxy-test"


@pytest.fixture
async def proxy(empty_server: EmbeddedServer) -> AsyncIterator[Proxy]:
    proxy = Proxy(empty_server.port)
    await proxy.start()
    yield proxy
    await proxy.aclose()


@pytest.fixture
async def through(proxy: Proxy) -> AsyncIterator[Redis]:
    async with Redis.from_url(proxy.url, protocol=2, retry=Retry(NoBackoff(), 0)) as raw:
        yield raw


@pytest.fixture
async def past(empty_server: EmbeddedServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(empty_server.url, protocol=2) as raw:
        yield raw
        await raw.unlink(KEY)


async def test_it_forwards(through: Redis) -> None:
    assert await through.incrby(KEY, 5) == 5


async def test_a_delayed_answer_comes(proxy: Proxy, through: Redis) -> None:
    proxy.delay = 0.01
    assert await through.incrby(KEY, 5) == 5


async def test_a_dropped_reply_leaves_the_effect(proxy: Proxy, through: Redis, past: Redis) -> None:
    assert await through.incrby(KEY, 1) == 1
    proxy.drop_replies = True
    with pytest.raises(RedisConnectionError):
        await through.incrby(KEY, 1)
    proxy.drop_replies = False
    assert proxy.dropped == 1
    assert await past.get(KEY) == b"2"
    assert await through.incrby(KEY, 1) == 3


@pytest.mark.parametrize(("what", "left"), [("both", b"1"), ("requests", b"1"), ("replies", b"2")])
async def test_a_swallowing_connection_loses_everything_and_new_ones_work(
    proxy: Proxy, through: Redis, past: Redis, what: Swallowed, left: bytes
) -> None:
    async with through.client() as held:
        assert await held.incrby(KEY, 1) == 1
        assert proxy.swallow(what) == 1
        asked = asyncio.ensure_future(held.incrby(KEY, 1))
        await wait_until(lambda: proxy.swallowed > 0)
        assert await through.get(KEY) == left
        assert not asked.done()
        assert proxy.swallowing == 1
        asked.cancel()
        await asyncio.wait([asked])


async def test_connections_are_chosen_by_their_client_names(proxy: Proxy) -> None:
    async with (
        Redis.from_url(proxy.url, protocol=2, client_name="one") as one,
        Redis.from_url(proxy.url, protocol=2, client_name="two") as other,
    ):
        await one.ping()
        await other.ping()
        assert proxy.open == 2
        assert proxy.swallow(name="one") == 1
        assert await other.ping()


async def test_a_cut_ends_all_connections(proxy: Proxy, through: Redis) -> None:
    async with through.client() as held:
        await held.ping()
        assert proxy.cut() == 1
        with pytest.raises(RedisConnectionError):
            await held.ping()
    assert await through.incrby(KEY, 1) == 1
