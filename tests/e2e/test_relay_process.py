"""The relay as a process: signals, its file, and what it needs of the machine while an endpoint is down."""

import asyncio
import signal
from pathlib import Path

import pytest
from tests.contract.chats import CONFIG
from tests.e2e.programs import PROC, Deployment, Program, Programs, needs_proc
from tests.e2e.relays import RELAY, write_file
from tests.relay.receiver import Receiver, Reply, always, well
from tests.waiting import wait_until

from turnstream import AddMessage, CreateSession, Turnstream, user_message
from turnstream.settings import load_settings
from turnstream_relay.signatures import new_secret


async def chat(deployment: Deployment, session_id: str, *texts: str) -> None:
    settings = load_settings(redis_url=deployment.url, namespace=deployment.namespace)
    async with Turnstream.connect(settings=settings) as ts:
        await ts.execute(CreateSession(CONFIG, session_id))
        for ticket in await ts.send_many([AddMessage(session_id, user_message(text)) for text in texts]):
            await ticket


def resident(program: Program) -> int:
    """Return the bytes of memory that a process has."""
    status = (PROC / str(program.process.pid) / "status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


async def said(program: Program, text: str, times: int = 1) -> None:
    await wait_until(lambda: program.errors.count(text) >= times)


async def test_it_reloads_its_file_on_request(programs: Programs, deployment: Deployment, tmp_path: Path) -> None:
    programs.worker("--log-level", "warning")
    async with Receiver().serving() as first, Receiver().serving() as second:
        file = write_file(tmp_path, {"hooks": first})
        relay = programs.start(RELAY, "run", "--config", str(file), "--log-level", "debug")
        old = first.secret
        await chat(deployment, "a", "1")
        await wait_until(lambda: len(set(first.ids)) >= 2)

        file.write_text("[endpoints.hooks]\nurl = 'nonsense'")
        relay.send(signal.SIGHUP)
        await said(relay, "configuration not read again")
        await chat(deployment, "b", "1")
        await wait_until(lambda: len(set(first.ids)) >= 4)

        # Only the secret is another one, as during a rotation, and there is one endpoint more.
        first.secret = new_secret()
        write_file(tmp_path, {"hooks": first, "more": second})
        relay.send(signal.SIGHUP)
        await said(relay, "configuration read again")
        await chat(deployment, "c", "1")
        await wait_until(lambda: len(set(first.ids)) >= 6 and len(set(second.ids)) >= 6)
        assert await asyncio.to_thread(relay.stop) == 0
    assert second.forged == 0
    for secret in (old, first.secret, second.secret):
        assert secret.removeprefix("whsec_") not in relay.errors
    assert first.url not in relay.errors


async def test_the_second_signal_ends_it_at_once(programs: Programs, deployment: Deployment, tmp_path: Path) -> None:
    programs.worker("--log-level", "warning")
    async with Receiver(always(Reply(delay=600.0))).serving() as hanging:
        relay = programs.start(RELAY, "run", "--config", str(write_file(tmp_path, {"hooks": hanging}, timeout="300")))
        await chat(deployment, "a", "1")
        await wait_until(lambda: hanging.open > 0)
        relay.send(signal.SIGTERM)
        await said(relay, "relay stopping")
        assert not relay.ended
        assert relay.stop(signal.SIGINT) == 128 + signal.SIGINT


@needs_proc
@pytest.mark.slow
async def test_its_memory_is_bounded_while_an_endpoint_is_down(
    programs: Programs, deployment: Deployment, tmp_path: Path
) -> None:
    """Of 60 MB of events that wait for one endpoint a relay holds a page, about a megabyte, of each partition."""
    programs.worker("--log-level", "warning")
    async with Receiver(always(Reply(500))).serving() as down, Receiver().serving() as up:
        file = write_file(tmp_path, {"down": down, "up": up}, max_backoff="0.5", attempts="1000", timeout="60")
        relay = programs.start(RELAY, "run", "--config", str(file))
        await chat(deployment, "a", "warm")
        await wait_until(lambda: len(set(up.ids)) >= 2 and bool(down.refused))
        before = resident(relay)
        for number in range(6):
            await chat(deployment, f"{number}-a", *["x" * 100_000] * 100)
        await wait_until(lambda: len(set(up.ids)) >= 2 + 6 * 101)
        assert resident(relay) - before < 40_000_000
        down.behaviour = well
        await wait_until(lambda: len(set(down.ids)) >= 2 + 6 * 101)
        assert await asyncio.to_thread(relay.stop) == 0
