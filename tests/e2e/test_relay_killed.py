"""The relay is killed again and again while events flow to three endpoints, one of which is down at first."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from tests.contract.chats import CONFIG
from tests.e2e.programs import Deployment, Program, Programs
from tests.e2e.relays import RELAY, write_file
from tests.relay.receiver import Receiver
from tests.waiting import wait_until

from turnstream import AddMessage, CreateSession, Turnstream, user_message
from turnstream.settings import load_settings

PATIENCE: Final = 300.0
SESSIONS: Final = 50


async def produce(deployment: Deployment, messages: int) -> None:
    settings = load_settings(redis_url=deployment.url, namespace=deployment.namespace)
    async with Turnstream.connect(settings=settings) as ts:
        sessions = [f"{number}-chat" for number in range(SESSIONS)]
        await asyncio.gather(*(ts.execute(CreateSession(CONFIG, session)) for session in sessions))
        for number in range(messages):
            # Some at a time, so that they come while relays die.
            await ts.send_many([AddMessage(session, user_message(f"{number}")) for session in sessions])
            await asyncio.sleep(0.02)


async def kill_again_and_again(
    relays: list[Program], start: Callable[[], Program], taken: Callable[[], int], every: int, chance: random.Random
) -> int:
    """Kill one and start another in its place whenever some more was delivered; return how many, when cancelled."""
    kills = 0
    with suppress(asyncio.CancelledError):
        while True:
            at = taken() + every * chance.uniform(0.1, 1.9)
            while taken() < at:  # noqa: ASYNC110 - as `wait_until`
                await asyncio.sleep(0.005)
            number = chance.randrange(len(relays))
            relays[number].process.kill()
            await asyncio.to_thread(relays[number].process.wait)
            kills += 1
            relays[number] = start()
    return kills


@pytest.mark.parametrize(
    ("messages", "every"),
    [
        pytest.param(23, 400, marks=pytest.mark.slow, id="short"),
        pytest.param(199, 600, marks=pytest.mark.long, id="long"),
    ],
)
@pytest.mark.timeout(PATIENCE * 2)
async def test_a_relay_that_is_killed_loses_nothing_and_keeps_the_order(
    programs: Programs,
    deployment: Deployment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    messages: int,
    every: int,
) -> None:
    total, seed = SESSIONS * (messages + 1), random.randrange(10**6)
    programs.worker("--log-level", "warning")
    async with AsyncExitStack() as serving:
        down = Receiver().reserve()
        receivers = [await serving.enter_async_context(Receiver().serving()) for _ in range(2)]
        endpoints = {"first": receivers[0], "second": receivers[1], "down": down}
        file = write_file(tmp_path, endpoints, max_backoff="1")
        arguments = ("run", "--config", str(file))
        start = partial(programs.start, RELAY, *arguments)
        relays = [start() for _ in range(2)]
        producing = asyncio.create_task(produce(deployment, messages))
        everywhere = (*receivers, down)
        killing = asyncio.create_task(
            kill_again_and_again(
                relays, start, lambda: sum(len(each.taken) for each in everywhere), every, random.Random(seed)
            )
        )
        await wait_until(lambda: len(set(receivers[0].ids)) >= total / 2, PATIENCE)
        await serving.enter_async_context(down.serving())
        await producing
        await wait_until(lambda: all(len(set(each.ids)) >= total for each in everywhere), PATIENCE)
        killing.cancel()
        kills = await killing
        await wait_until(lambda: all("relay started" in relay.errors for relay in relays), PATIENCE)
        statuses = await asyncio.gather(*(asyncio.to_thread(relay.stop) for relay in relays))
    assert statuses == [0, 0]
    assert kills > 0
    for each in everywhere:
        assert (len(set(each.ids)), each.forged) == (total, 0), f"seed {seed}"
        for sequences in each.of_sessions().values():
            assert all(a < b for a, b in pairwise(dict.fromkeys(sequences))), f"seed {seed}"
    again = [sum(count - 1 for count in Counter(each.ids).values()) for each in everywhere]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{total} events to each of 3 endpoints, {kills} relays killed (seed {seed}); delivered again: {again}\n"
        )
