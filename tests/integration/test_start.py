"""Starts in unusual states: before the first worker, with a reader's permissions, on a server that is full."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from tests.contract.chats import CONFIG
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.waiting import wait_until

from turnstream import CreateSession, Turnstream, TurnstreamError
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.deployment.migration import migrate
from turnstream.adapters.redis.deployment.setup import set_up
from turnstream.errors import ConfigurationError, KeyUnusable
from turnstream.settings import Settings


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 8}


@asynccontextmanager
async def reading(real: EmbeddedDeployment) -> AsyncGenerator[Settings]:
    """The settings of a user that may read keys and do nothing else to them."""
    rules = (f"%R~{real.settings.namespace}:*", "&*", "-@all", "+@read", "+@connection", "+@pubsub", "+info")
    await real.call("ACL", "SETUSER", "reader", "reset", "on", ">secret", *rules)
    try:
        yield real.settings.at(real.settings.redis_url.get_secret_value().replace("redis://", "redis://reader:secret@"))
    finally:
        await real.call("ACL", "DELUSER", "reader")


async def test_a_client_that_comes_before_the_first_worker_makes_no_deployment(
    real: EmbeddedDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    async with Turnstream.connect(settings=real.settings) as ts:
        assert await real.names() == []
        assert "the deployment is not made yet: start a worker" in caplog.text
        ticket = await ts.send(CreateSession(CONFIG, "s"))
        await worker_of(real)
        assert (await ticket).version == 1
    assert await real.call("GET", real.keys.layout) == b"8 2"


async def test_a_user_that_may_only_read_starts_with_and_without_a_deployment(real: EmbeddedDeployment) -> None:
    async with reading(real) as settings:
        for worker in (False, True):
            if worker:
                await worker_of(real)
            async with Turnstream.connect(settings=settings) as ts:
                assert await ts.sessions.count() == 0


async def test_a_client_with_other_partitions_than_the_first_worker_queues_nothing_once_that_has_come(
    real: EmbeddedDeployment,
) -> None:
    async with Turnstream.connect(settings=replace(real.settings, partitions=4)) as ts:
        await worker_of(real)
        with pytest.raises(ConfigurationError, match=r"has 8 partitions .* set to 4 .*TURNSTREAM_PARTITIONS to 8"):
            await ts.send(CreateSession(CONFIG, "s"))
    assert not [name for name in await real.names() if "1.4." in name]


async def test_readers_also_learn_that_the_deployment_was_recreated_differently(real: EmbeddedDeployment) -> None:
    async with Turnstream.connect(settings=replace(real.settings, partitions=4)) as ts:
        assert await ts.sessions.count() == 0
        await worker_of(real)

        async def told() -> bool:
            try:
                await ts.sessions.count()
            except ConfigurationError as error:
                return "has 8 partitions" in str(error)
            return False

        await wait_until(told)


async def test_of_two_workers_that_make_a_deployment_at_the_same_time_the_second_is_refused(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found none; the second one's write comes too late."""
    late = await RedisBackend.open(replace(real.settings, partitions=4), "late", throw_away=True)
    found, first = late.deployment._found, [True]

    async def not_yet() -> str | None:
        if first.pop() if first else False:
            await worker_of(real)
            return None
        return await found()

    monkeypatch.setattr(late.deployment, "_found", not_yet)
    with pytest.raises(ConfigurationError, match="has 8 partitions"):
        await late.deployment.make()
    await late.aclose()
    assert await real.call("GET", real.keys.layout) == b"8 2"


@pytest.mark.parametrize("words", [("RPUSH", "a text"), ("SET", b"\xff\xfe"), ("SET", "8"), ("SET", "many 2")])
async def test_something_else_in_the_place_of_the_layout_is_an_error_of_this_library(
    real: EmbeddedDeployment, words: tuple[str | bytes, ...]
) -> None:
    command, value = words
    await real.call(command, real.keys.layout, value)
    starts: list[Callable[[], Awaitable[object]]] = [
        lambda: RedisBackend.open(real.settings),
        lambda: RedisBackend.open(real.settings, works=True),
        lambda: set_up(real.settings),
        lambda: anext(migrate(real.settings)),
    ]
    for start in starts:
        with pytest.raises(TurnstreamError, match=real.keys.layout if command == "RPUSH" else "has layout|partitions"):
            await start()


async def test_a_client_that_connected_before_says_so_too(real: EmbeddedDeployment) -> None:
    async with Turnstream.connect(settings=real.settings) as ts:
        await real.call("RPUSH", real.keys.layout, "a text")
        with pytest.raises(KeyUnusable, match=real.keys.layout):
            await ts.execute(CreateSession(CONFIG, "s"), timeout=0.2)
        await real.call("DEL", real.keys.layout)
        ticket = await ts.send(CreateSession(CONFIG, "s"))
        await worker_of(real)
        assert (await ticket).version == 1
