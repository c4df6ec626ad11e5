"""The stricter modes of durability: no client learns of a command before it is safe (design §7)."""

import asyncio
import math
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, texts_of
from tests.contract.deployments import client_of, opened
from tests.contract.hearing import take, take_one
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, CreateSession, Ticket, Turnstream, user_message
from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.commit import durability_gate
from turnstream.adapters.redis.deployment.checks import check_servers
from turnstream.client.replies import resend_schedule
from turnstream.errors import ConfigurationError
from turnstream.messages import new_id
from turnstream.settings import Settings

STRICT: dict[str, Any] = {"namespace": "strict", "partitions": 2, "lease": 1.0}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that ends without success is repeated, often in the time that a test looks."""
    monkeypatch.setattr(durability_gate, "WAIT_MS", 20)


@asynccontextmanager
async def replicated() -> AsyncGenerator[tuple[EmbeddedDeployment, EmbeddedServer]]:
    """A deployment on a primary, and its replica."""
    with start_embedded_server() as primary, start_embedded_server() as replica:
        deployment = EmbeddedDeployment(Settings(durability="replicated", **STRICT).at(primary.url))
        copy = EmbeddedDeployment(deployment.settings.at(replica.url))
        await _replicate(deployment, copy)
        try:
            yield deployment, replica
        finally:
            os.kill(replica.pid, signal.SIGCONT)
            await deployment.aclose()
            await copy.raw.aclose()


async def _replicate(primary: EmbeddedDeployment, copy: EmbeddedDeployment) -> None:
    # By default a primary waits five seconds for more replicas to come.
    await primary.call("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    await copy.call("REPLICAOF", "127.0.0.1", primary.settings.redis_url.get_secret_value().rpartition(":")[2])
    await wait_until(lambda: _is_connected(copy))


async def _is_connected(copy: EmbeddedDeployment) -> bool:
    link: str = (await copy.call("INFO", "replication"))["master_link_status"]
    return link == "up"


async def stable(deployment: EmbeddedDeployment) -> list[tuple[int, int]]:
    """Up to which sequence the events of each partition are safe, and how many there are."""
    found = [
        await deployment.call("HMGET", keys.partition, "stable", "sequence") for keys in deployment.keys.partitions
    ]
    return [(int(safe), int(sequence)) for safe, sequence in found]


async def test_events_on_disk_are_published(tmp_path: Path) -> None:
    with start_embedded_server(tmp_path) as server:
        deployment = EmbeddedDeployment(Settings(durability="fsync", **STRICT).at(server.url))
        await deployment.call("CONFIG", "SET", "appendfsync", "always")
        await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        async with client.subscribe() as events:
            session = await client.execute(CreateSession(CONFIG, "s"))
            tickets = await client.send_many([AddMessage("s", user_message(str(number))) for number in range(600)])
            assert [(await ticket).version for ticket in tickets] == list(range(2, 602))
            seen = await take(events, 601)
        assert [event.version for event in seen] == list(range(1, 602))
        assert session.version == 1
        assert all(safe == sequence for safe, sequence in await stable(deployment))
        assert (await client.dispatch(CreateSession(CONFIG, "s"))).error == "Session already exists with ID: s"
        await deployment.aclose()


async def test_unreplicated_commits_are_not_published() -> None:
    async with replicated() as (deployment, replica):
        await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        session = await a_session(client, "one")
        async with client.subscribe() as events:
            heard = asyncio.create_task(take_one(events))
            os.kill(replica.pid, signal.SIGSTOP)
            ticket = await client.send(AddMessage(session.id, user_message("two")))
            await wait_until(lambda: _is_applied(client, session.id, 2))
            # The repository holds it, the worker asks the replica repeatedly, and yet it is not published.
            asked = await waits(deployment)
            await wait_until(lambda: _waited_more(deployment, asked + 5))
            assert not heard.done()
            assert "done=False" in repr(ticket)
            assert sum(sequence - safe for safe, sequence in await stable(deployment)) == 1
            log = (await opened(deployment)).events
            assert sum([len((await log.read(partition, 0, 100)).payloads) for partition in (0, 1)]) == 2
            os.kill(replica.pid, signal.SIGCONT)
            assert (await ticket).version == 3
            assert (await heard).version == 3
        assert all(safe == sequence for safe, sequence in await stable(deployment))


async def waits(deployment: EmbeddedDeployment) -> int:
    """How often the primary was asked to wait for its replica."""
    calls = (await deployment.call("INFO", "commandstats")).get("cmdstat_wait", {"calls": 0})["calls"]
    return int(calls)


async def _waited_more(deployment: EmbeddedDeployment, than: int) -> bool:
    return await waits(deployment) > than


async def _is_applied(client: Turnstream, session_id: str, messages: int) -> bool:
    return len(await client.sessions.messages(session_id)) == messages


async def test_the_next_owner_publishes_the_events_its_predecessor_could_not() -> None:
    async with replicated() as (deployment, replica):
        first = await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        session = await a_session(client, "one")
        two = AddMessage(session.id, user_message("two"))
        async with client.subscribe() as events:
            os.kill(replica.pid, signal.SIGSTOP)
            ticket = await client.send(two)
            await wait_until(lambda: _is_applied(client, session.id, 2))
            await first.crash()
            await worker_of(deployment)
            os.kill(replica.pid, signal.SIGCONT)
            assert (await take_one(events)).version == 3
            again = await client.execute(two, command_id=ticket.command_id)
            assert (await ticket).version == again.version == 3
        assert texts_of(await client.sessions.messages(session.id)) == ["one", "two"]


async def test_the_next_owner_answers_callers_of_one_that_could_not_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with replicated() as (deployment, replica):
        first = await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        session = await a_session(client)
        os.kill(replica.pid, signal.SIGSTOP)
        texts = [str(number) for number in range(100)]
        tickets = await client.send_many(
            [AddMessage(session.id, user_message(text)) for text in texts], timeout=3 * SOON
        )
        await wait_until(lambda: _is_applied(client, session.id, 100))
        await first.crash()
        await worker_of(deployment)
        os.kill(replica.pid, signal.SIGCONT)
        monkeypatch.setattr(resend_schedule, "MIN_AGE_S", 0.0)
        monkeypatch.setattr(resend_schedule, "TIMEOUT_PARTS", math.inf)
        assert [(await ticket).version for ticket in tickets] == list(range(2, 102))
        assert texts_of(await client.sessions.messages(session.id)) == texts


async def test_events_left_unpublished_by_a_promotion_are_published_without_another_command() -> None:
    async with replicated() as (deployment, replica):
        await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        session = await a_session(client)
        async with client.subscribe() as events:
            os.kill(replica.pid, signal.SIGSTOP)
            await client.send(AddMessage(session.id, user_message("two")))
            await wait_until(lambda: _is_applied(client, session.id, 1))
            # Like a replica that is promoted: it keeps its data, under another replication id.
            await deployment.call("REPLICAOF", "127.0.0.1", "1")
            await deployment.call("REPLICAOF", "NO", "ONE")
            os.kill(replica.pid, signal.SIGCONT)
            assert (await take_one(events)).version == 2
        await wait_until(lambda: _all_safe(deployment))


async def _all_safe(deployment: EmbeddedDeployment) -> bool:
    return all(safe == sequence for safe, sequence in await stable(deployment))


async def test_answered_commands_survive_the_primary_and_others_may_not() -> None:
    async with AsyncExitStack() as opened_here:
        primary, replica = (opened_here.enter_context(start_embedded_server()) for _ in range(2))
        deployment = EmbeddedDeployment(Settings(durability="replicated", **STRICT).at(primary.url))
        copy = EmbeddedDeployment(deployment.settings.at(replica.url))
        for made in (deployment, copy):
            opened_here.push_async_callback(made.raw.aclose)
            opened_here.push_async_callback(made.resources.aclose)
        await _replicate(deployment, copy)
        await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        session = await a_session(client)
        for number in range(40):
            await (await client.send(AddMessage(session.id, user_message(str(number)))))
        os.kill(replica.pid, signal.SIGSTOP)
        ticket = await client.send(AddMessage(session.id, user_message("40")))
        await wait_until(lambda: _is_applied(client, session.id, 41))
        assert sum(sequence - safe for safe, sequence in await stable(deployment)) == 1
        assert "done=False" in repr(ticket)
        os.kill(primary.pid, signal.SIGKILL)
        os.kill(replica.pid, signal.SIGCONT)
        await copy.call("REPLICAOF", "NO", "ONE")
        survivor = await client_of(copy, worker=False)
        texts = texts_of(await survivor.sessions.messages(session.id))
        assert texts in ([str(number) for number in range(count)] for count in (40, 41))


async def test_commits_wait_while_too_many_are_unpublished() -> None:
    async with replicated() as (deployment, replica):
        await worker_of(deployment)
        client = await client_of(deployment, worker=False)
        session = await a_session(client)
        os.kill(replica.pid, signal.SIGSTOP)
        tickets: list[Ticket] = []
        for number in range(150):
            tickets.append(await client.send(AddMessage(session.id, user_message(str(number)))))
            await asyncio.sleep(0.002)
        os.kill(replica.pid, signal.SIGCONT)
        assert [(await ticket).version for ticket in tickets] == list(range(2, 152))


# ── servers that do not fit ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_server_without_an_append_only_file_is_refused() -> None:
    with (
        start_embedded_server() as server,
        pytest.raises(ConfigurationError, match=r"keeps no append-only file.*TURNSTREAM_DURABILITY"),
    ):
        await Turnstream.connect(settings=Settings(durability="fsync").at(server.url))


async def test_a_server_without_waitaof_is_refused(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = await RedisBackend.open(
        Settings(namespace=new_id()[:32].replace("-", "")).at(server.url), throw_away=True
    )
    strict = RedisBackend(backend.server)
    monkeypatch.setattr(strict.server, "settings", Settings(durability="fsync"))
    (calls,) = await strict.server.topology.primaries()

    async def old(*words: str) -> Any:  # noqa: ANN401 - whatever a server answers
        assert words == ("INFO",)
        return b"redis_version:7.0.15\r\naof_enabled:1\r\n"

    monkeypatch.setattr(calls, "call", old)
    with pytest.raises(ConfigurationError, match=r"Redis 7\.0\.15, which has no WAITAOF.*7\.2"):
        await check_servers(strict.server, throw_away=True)
    monkeypatch.undo()
    await backend.server.topology.calls("").call("DEL", backend.server.keys.layout)
    await backend.aclose()


async def test_too_few_replicas_are_said_at_the_start(server: EmbeddedServer, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(namespace="few", durability="replicated").at(server.url)
    backend = await RedisBackend.open(settings, throw_away=True)
    assert "too few replicas are connected" in caplog.text
    await backend.server.topology.calls("").call("DEL", backend.server.keys.layout)
    await backend.aclose()
