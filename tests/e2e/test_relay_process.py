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
from turnstream_relay.signing import new_secret


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


async def test_it_reads_its_file_again_when_it_is_told_to(
    programs: Programs, deployment: Deployment, tmp_path: Path
) -> None:
    programs.worker("--log-level", "warning")
    async with Receiver().serving() as first, Receiver().serving() as second:
        file = write_file(tmp_path, {"hooks": first})
        relay = programs.start(RELAY, "run", "--config", str(file))
        await chat(deployment, "a", "1")
        await wait_until(lambda: len(first.taken) == 2)

        file.write_text("[endpoints.hooks]\nurl = 'nonsense'")
        relay.send(signal.SIGHUP)
        await said(relay, "configuration not read again")
        await chat(deployment, "b", "1")
        await wait_until(lambda: len(first.taken) == 4)

        # Only the secret is another one, as during a rotation, and there is one endpoint more.
        first.secret = new_secret()
        write_file(tmp_path, {"hooks": first, "more": second})
        relay.send(signal.SIGHUP)
        await said(relay, "configuration read again")
        await chat(deployment, "c", "1")
        await wait_until(lambda: len(first.taken) == 6 and len(second.taken) == 6)
        assert relay.stop() == 0
    assert (first.forged, second.forged) == (0, 0)
    assert "whsec_" not in relay.errors
    assert first.secret.removeprefix("whsec_") not in relay.errors


async def test_the_second_signal_ends_it_at_once(programs: Programs, deployment: Deployment, tmp_path: Path) -> None:
    programs.worker("--log-level", "warning")
    async with Receiver(always(Reply(delay=600.0))).serving() as hanging:
        relay = programs.start(RELAY, "run", "--config", str(write_file(tmp_path, {"hooks": hanging}, timeout="300")))
        await chat(deployment, "a", "1")
        await wait_until(lambda: hanging.open > 0)
        relay.send(signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert not relay.ended
        assert relay.stop() == 128 + signal.SIGTERM


@needs_proc
@pytest.mark.slow
async def test_its_memory_is_bounded_while_an_endpoint_is_down(
    programs: Programs, deployment: Deployment, tmp_path: Path
) -> None:
    """60 MB of events wait for one endpoint in one partition, of which a relay holds one page."""
    programs.worker("--log-level", "warning")
    async with Receiver(always(Reply(500))).serving() as down, Receiver().serving() as up:
        file = write_file(tmp_path, {"down": down, "up": up}, longest_rest="0.5", attempts="1000", timeout="60")
        relay = programs.start(RELAY, "run", "--config", str(file))
        await chat(deployment, "a", "warm")
        await wait_until(lambda: len(up.taken) == 2 and bool(down.refused))
        before = resident(relay)
        for number in range(6):
            await chat(deployment, f"{number}-a", *["x" * 100_000] * 100)
        await wait_until(lambda: len(up.taken) == 2 + 6 * 101)
        assert resident(relay) - before < 30_000_000
        down.behaviour = well
        await wait_until(lambda: len(set(down.ids)) == 2 + 6 * 101)
        assert relay.stop() == 0
