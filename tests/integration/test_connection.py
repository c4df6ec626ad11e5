"""The shared connection: each caller gets its own answer, or learns in time that there is none."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from turnstream import Settings, Unavailable
from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.connection.executor import CommandExecutor

PATIENCE = 1.0


@pytest.fixture
def server() -> EmbeddedServer:
    """A separate server, for it is stopped, and made a replica."""
    return start_embedded_server()


@pytest.fixture
async def operator(server: EmbeddedServer) -> AsyncIterator[CommandExecutor]:
    with server:
        backend = await RedisBackend.open(Settings().at(server.url), "operator", throw_away=True)
        yield backend.server.calls(0)
        await backend.aclose()


@pytest.fixture
async def calls(server: EmbeddedServer, operator: CommandExecutor) -> AsyncIterator[CommandExecutor]:
    backend = await RedisBackend.open(Settings().at(server.url), "test", throw_away=True)
    yield backend.server.calls(0)
    await backend.aclose()


@pytest.fixture
async def impatient(server: EmbeddedServer, operator: CommandExecutor) -> AsyncIterator[CommandExecutor]:
    backend = await RedisBackend.open(Settings(response_timeout=PATIENCE).at(server.url), "test", throw_away=True)
    yield backend.server.calls(0)
    await backend.aclose()


async def echoed(calls: CommandExecutor, texts: list[str]) -> list[Any]:
    return await asyncio.gather(*(calls.call("ECHO", text) for text in texts), return_exceptions=True)


async def test_a_silent_server_is_given_up_and_its_late_answers_are_nobodys(
    impatient: CommandExecutor, server: EmbeddedServer
) -> None:
    before = await impatient.call("CLIENT", "ID")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        silent = await echoed(impatient, ["a", "b"])
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert [str(each).partition(" did not answer within ")[2] for each in silent] == ["1 s", "1 s"]
    assert await echoed(impatient, ["c", "d"]) == [b"c", b"d"]
    assert await impatient.call("CLIENT", "ID") != before


async def test_an_entry_answered_in_time_repeatedly_is_not_given_up(impatient: CommandExecutor) -> None:
    before = await impatient.call("CLIENT", "ID")
    until = asyncio.get_running_loop().time() + 1.5 * PATIENCE
    while asyncio.get_running_loop().time() < until:
        await impatient.call("PING")
    assert await impatient.call("CLIENT", "ID") == before


async def test_the_answer_of_a_call_that_was_cancelled_is_nobodys(calls: CommandExecutor) -> None:
    for _ in range(3):
        cancelled = asyncio.create_task(calls.call("ECHO", "a"))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await echoed(calls, ["b", "c"]) == [b"b", b"c"]


async def test_an_error_is_its_callers_own(calls: CommandExecutor) -> None:
    answers = await asyncio.gather(
        calls.call("ECHO", "a"), calls.call("NONSENSE"), calls.call("ECHO", "b"), return_exceptions=True
    )
    assert [answers[0], type(answers[1]), answers[2]] == [b"a", ResponseError, b"b"]


async def test_every_waiter_learns_of_a_lost_connection(calls: CommandExecutor, operator: CommandExecutor) -> None:
    waiting = [asyncio.create_task(calls.call("BLPOP", "nothing", 0)) for _ in range(3)]
    number = await _id_of(operator, "blpop")
    assert await operator.call("CLIENT", "KILL", "ID", number) == 1
    lost = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in lost] == [Unavailable] * 3
    assert await echoed(calls, ["a", "b"]) == [b"a", b"b"]


async def test_a_demoted_server_is_left(calls: CommandExecutor, operator: CommandExecutor) -> None:
    before = await calls.call("CLIENT", "ID")
    await operator.call("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(Unavailable, match="read only"):
        await calls.call("SET", "key", "value")
    assert await calls.call("CLIENT", "ID") != before
    await operator.call("REPLICAOF", "NO", "ONE")


async def test_words_that_cannot_be_sent_are_their_callers_failure(calls: CommandExecutor) -> None:
    with pytest.raises(TypeError):
        await calls.call("ECHO", object())  # type: ignore[arg-type]
    assert await echoed(calls, ["a"]) == [b"a"]


async def _id_of(operator: CommandExecutor, running: str) -> str:
    while True:
        listed: bytes = await operator.call("CLIENT", "LIST")
        found = [line for line in listed.decode().splitlines() if f"cmd={running} " in line]
        if found:
            return found[0].partition(" ")[0].removeprefix("id=")
