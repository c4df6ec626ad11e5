"""`timeout` is one deadline for a whole call, whichever step it ends in; the error then says how far the call got."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.chaos.proxy import Proxy
from tests.contract.chats import CONFIG, a_session
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.waiting import SOON, wait_until

from turnstream import (
    AddMessage,
    CommandTimeout,
    CreateSession,
    InvalidCommand,
    Turnstream,
    Unavailable,
    UpdateSession,
    sync,
    user_message,
)
from turnstream.adapters.embedded import EmbeddedServer
from turnstream.commands import Command, GetSession, ListSessions
from turnstream.domain.patches import SessionPatch
from turnstream.ports import Condition
from turnstream.settings import Settings, load_settings

TIMEOUT = 0.5
PATIENCE = 20 * SOON
"""Seconds for which each step would wait without the deadline."""

Call = Callable[[Turnstream], Awaitable[object]]

CALLS: dict[str, Call] = {
    "execute": lambda ts: ts.execute(added(), timeout=TIMEOUT),
    "dispatch": lambda ts: ts.dispatch(added(), timeout=TIMEOUT),
    "send": lambda ts: ts.send(added(), timeout=TIMEOUT),
    "send, waiting for room": lambda ts: ts.send(added(), timeout=TIMEOUT, when_full="wait"),
    "send_many": lambda ts: ts.send_many([added(), added()], timeout=TIMEOUT),
    "by the setting": lambda ts: ts.execute(AddMessage("s", user_message("one"))),
    "a session": lambda ts: ts.execute(GetSession("s"), timeout=TIMEOUT),
    "a page": lambda ts: ts.execute(ListSessions(), timeout=TIMEOUT),
}


def added() -> AddMessage:
    return AddMessage("s", user_message("one"))


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1, "timeout": TIMEOUT, "response_timeout": PATIENCE, "connect_timeout": PATIENCE}


@pytest.fixture
async def proxy(real: EmbeddedDeployment) -> AsyncIterator[Proxy]:
    made = Proxy(int(real.settings.redis_url.get_secret_value().rpartition(":")[2]))
    await made.start()
    yield made
    await made.aclose()


async def through(proxy: Proxy, real: EmbeddedDeployment) -> Turnstream:
    """A client whose connections lead through the proxy."""
    ts = await Turnstream.connect(settings=real.settings.at(proxy.url))
    real.resources.push_async_callback(ts.aclose)
    return ts


async def took(call: Awaitable[object]) -> tuple[float, Unavailable]:
    """Return how long a call took, and the error that ended it."""
    clock = asyncio.get_running_loop().time
    began = clock()
    with pytest.raises(Unavailable) as raised:
        await call
    return clock() - began, raised.value


def check(seconds: float, error: Unavailable) -> None:
    """It ended after its time, and not after that of one of its steps; it reports the time that has passed."""
    assert TIMEOUT * 0.99 <= seconds < SOON
    if isinstance(error, CommandTimeout):
        assert TIMEOUT * 0.99 <= error.timeout <= seconds * 1.01
        assert f"within {error.timeout:g} s" in str(error)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("known", [False, True], ids=["first call", "later call"])
async def test_a_call_without_an_answer_ends_at_its_deadline(
    real: EmbeddedDeployment, proxy: Proxy, name: str, *, known: bool
) -> None:
    """Neither the way back, nor queueing, nor a read goes through: the connections swallow all."""
    await worker_of(real)
    await a_session(await client_of(real, worker=False), session_id="s")
    ts = await through(proxy, real)
    if known:
        await ts.execute(UpdateSession("s", SessionPatch(is_active=False)), timeout=SOON)
    proxy.silent = True
    check(*await took(CALLS[name](ts)))
    # And again, after one that is still in flight.
    check(*await took(CALLS[name](ts)))


async def test_it_says_whether_the_command_may_have_been_sent(real: EmbeddedDeployment, proxy: Proxy) -> None:
    ts = await through(proxy, real)
    proxy.silent = True
    _, never_sent = await took(ts.send(added(), timeout=TIMEOUT))
    assert str(never_sent).startswith(f"Command {never_sent.command_id} could not be sent within ")
    assert "applied" not in str(never_sent)
    proxy.silent = False
    proxy.cut()
    await ts.send(added(), timeout=SOON)
    proxy.silent = True
    _, unknown = await took(ts.send(added(), timeout=TIMEOUT))
    assert "it may still be applied. It is not known whether it was queued: The server has not answered." in str(
        unknown
    )


async def test_a_command_not_sent_in_time_is_not_sent_later(real: EmbeddedDeployment, proxy: Proxy) -> None:
    ts = await through(proxy, real)
    sent = await ts.send(CreateSession(CONFIG, "first"), timeout=SOON)
    proxy.silent = True
    pending = asyncio.ensure_future(ts.send(CreateSession(CONFIG, "under way"), timeout=SOON))
    await wait_until(lambda: proxy.swallowed > 0)
    check(*await took(ts.send(CreateSession(CONFIG, "behind"), timeout=TIMEOUT)))
    proxy.silent = False
    proxy.cut()
    await pending
    await worker_of(real)
    await sent
    await ts.execute(CreateSession(CONFIG, "last"), timeout=SOON)
    assert {info.id async for info in ts.sessions.list()} == {"first", "under way", "last"}


async def test_the_read_of_the_result_has_no_separate_timeout(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worker_of(real)
    ts = await client_of(real, worker=False)
    await a_session(ts, session_id="s")

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ts._backend.reader, "messages", never)
    seconds, error = await took(ts.execute(UpdateSession("s", SessionPatch(is_active=False)), timeout=2 * TIMEOUT))
    assert 2 * TIMEOUT * 0.99 <= seconds < SOON
    assert "was applied; only its result could not be read within" in str(error)
    assert error.command_id


async def test_waiting_for_queueing_is_no_extra_time(real: EmbeddedDeployment, proxy: Proxy) -> None:
    """The time spent queueing is not available for the answer: there is no worker."""
    ts = await through(proxy, real)
    await ts.send(CreateSession(CONFIG, "first"), timeout=SOON)
    proxy.delay = TIMEOUT
    seconds, error = await took(ts.execute(CreateSession(CONFIG, "s"), timeout=5 * TIMEOUT))
    assert isinstance(error, CommandTimeout)
    assert seconds < 5 * TIMEOUT + SOON
    assert error.timeout == pytest.approx(seconds, rel=0.05)


def test_the_client_without_asyncio_has_the_same(empty_server: EmbeddedServer, settings: Settings) -> None:
    with sync.Turnstream.connect(empty_server.url, settings=settings) as ts:
        for call in (
            lambda: ts.execute(CreateSession(CONFIG), timeout=TIMEOUT),
            lambda: ts.dispatch(CreateSession(CONFIG), timeout=TIMEOUT),
            lambda: ts.execute(CreateSession(CONFIG)),
            lambda: ts.send(CreateSession(CONFIG)).result(),
            lambda: ts.send_many([CreateSession(CONFIG)])[0].result(TIMEOUT),
        ):
            with pytest.raises(CommandTimeout) as raised:
                call()
            assert TIMEOUT * 0.99 <= raised.value.timeout < SOON


@pytest.mark.parametrize("timeout", [float("nan"), "3"])
async def test_an_invalid_number_of_seconds_is_refused(timeout: Any) -> None:  # noqa: ANN401
    async with Turnstream.in_memory() as ts:
        ticket = await ts.send(CreateSession(CONFIG))
        for call in (
            ts.execute(added(), timeout=timeout),
            ts.execute(GetSession("s"), timeout=timeout),
            ts.send(added(), timeout=timeout),
            ts.send_many([added()], timeout=timeout),
            ticket.result(timeout),
        ):
            with pytest.raises(InvalidCommand, match="timeout"):
                await call


def test_the_default_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().timeout == 30
    monkeypatch.setenv("TURNSTREAM_TIMEOUT", "2.5")
    assert load_settings().timeout == 2.5


# ── what is known at the deadline ────────────────────────────────────────────────────────────────────────────────────

LATE: Command[Any] = CreateSession(CONFIG, "s")


async def reason(ts: Turnstream) -> str:
    with pytest.raises(CommandTimeout) as raised:
        await ts.execute(LATE, timeout=8 * TIMEOUT)
    return raised.value.reason


async def test_it_says_that_no_worker_is_registered(real: EmbeddedDeployment) -> None:
    ts = await client_of(real, worker=False)
    assert await reason(ts) == "No worker is registered: start one."
    # One that has left does not count.
    await (await worker_of(real)).stop()
    assert await reason(ts) == "No worker is registered: start one."


@pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 0.2}])
async def test_it_says_how_long_ago_the_last_worker_was_seen(real: EmbeddedDeployment) -> None:
    ts = await client_of(real, worker=False)
    await ts._backend.ownership.beat("w1")
    found = await reason(ts)
    assert found.startswith("No worker is alive: the last one, w1, gave its last sign of life ")
    await real.call("DEL", real.keys.workers)


@pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": SOON}])
async def test_it_says_that_workers_are_alive(real: EmbeddedDeployment) -> None:
    ts = await client_of(real, worker=False)
    for name in ("w1", "w2"):
        await ts._backend.ownership.beat(name)
    assert (await reason(ts)).startswith("Workers that are alive: 2; the last sign of life came ")
    await real.call("DEL", real.keys.workers)


async def test_it_says_that_the_server_is_full(real: EmbeddedDeployment) -> None:
    ts = await client_of(real, worker=False)
    ticket = await ts.send(LATE)
    await real.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(CommandTimeout, match="The server is full"):
            await ticket.result(8 * TIMEOUT)
    finally:
        await real.call("CONFIG", "SET", "maxmemory", "0")


async def test_without_knowledge_it_asks(real: EmbeddedDeployment) -> None:
    ts = await client_of(real, worker=False)
    await real.call("SET", real.keys.workers, "a text")
    assert await reason(ts) == "Is a worker running?"
    await real.call("DEL", real.keys.workers)


async def test_many_that_wait_look_once_and_none_waits_for_the_look(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ts = await client_of(real, worker=False)
    looks = 0

    async def never(_: int) -> Condition:
        nonlocal looks
        looks += 1
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(ts._backend.ownership, "condition", never)
    tickets = await ts.send_many([CreateSession(CONFIG, str(number)) for number in range(50)], timeout=SOON)
    ends = await asyncio.gather(*(took(ticket.result(TIMEOUT)) for ticket in tickets))
    for seconds, error in ends:
        check(seconds, error)
        assert "Is a worker running?" in str(error)
    assert looks == 1
