"""When an attempt may be made."""

import asyncio
from contextlib import suppress

import pytest
from tests.waiting import SOON, wait_until

from turnstream_relay.answers import Answer, Outcome
from turnstream_relay.gate import FAILURES, Closed, Gate

REST = 0.02
WELL = Answer(Outcome.DELIVERED, "HTTP 200")
BAD = Answer(Outcome.FAILED, "HTTP 500")
BUSY = Answer(Outcome.BUSY, "HTTP 429", 0.05)


async def attempt(gate: Gate, answer: Answer) -> None:
    async with gate.turn():
        gate.note(answer)


async def failing(gate: Gate) -> None:
    for _ in range(FAILURES):
        await attempt(gate, BAD)
    assert gate.is_resting


async def test_failures_in_a_row_bring_a_rest_and_a_success_ends_it() -> None:
    gate = Gate(2, None, REST)
    for _ in range(FAILURES - 1):
        await attempt(gate, BAD)
    await attempt(gate, WELL)
    await attempt(gate, BAD)
    assert not gate.is_resting
    await failing(gate)
    await asyncio.wait_for(attempt(gate, WELL), SOON)
    assert not gate.is_resting


async def test_one_at_a_time_tries_whether_the_endpoint_is_back() -> None:
    gate, inside, back = Gate(8, None, REST), 0, asyncio.Event()
    await failing(gate)

    async def one() -> None:
        nonlocal inside
        async with gate.turn():
            inside += 1
            await back.wait()
            gate.note(WELL)

    waiting = [asyncio.create_task(one()) for _ in range(8)]
    await wait_until(lambda: inside == 1)
    await asyncio.sleep(3 * REST)
    assert inside == 1
    back.set()
    await asyncio.wait_for(asyncio.gather(*waiting), SOON)


async def test_who_is_cancelled_while_it_tries_lets_another_try() -> None:
    gate, tries = Gate(2, None, REST), asyncio.Event()
    await failing(gate)

    async def hangs() -> None:
        async with gate.turn():
            tries.set()
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hangs())
    await asyncio.wait_for(tries.wait(), SOON)
    other = asyncio.create_task(attempt(gate, WELL))
    hanging.cancel()
    await asyncio.wait_for(other, SOON)
    assert not gate.is_resting


async def test_a_busy_endpoint_rests_at_once_for_as_long_as_it_says() -> None:
    gate, clock = Gate(2, None, REST), asyncio.get_running_loop().time
    began = clock()
    await attempt(gate, BUSY)
    assert gate.is_resting
    await asyncio.wait_for(attempt(gate, WELL), SOON)
    assert clock() - began >= 0.05


async def test_rests_become_longer() -> None:
    gate, rests, clock = Gate(1, None, 0.4), list[float](), asyncio.get_running_loop().time
    await failing(gate)
    for _ in range(3):
        began = clock()
        await asyncio.wait_for(attempt(gate, BAD), SOON)
        rests.append(clock() - began)
    assert rests[2] >= 0.2  # half of the longest, at least: it is jittered


async def test_no_more_at_a_time_than_may_be() -> None:
    gate, inside, most = Gate(3, None, REST), 0, 0

    async def one() -> None:
        nonlocal inside, most
        async with gate.turn():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(20)))
    assert most == 3


@pytest.mark.parametrize(("rate", "turns", "least"), [(50.0, 70, 0.3), (5.0, 7, 0.3)])
async def test_no_more_a_second_than_may_be(rate: float, turns: int, least: float) -> None:
    gate, clock = Gate(100, rate, REST), asyncio.get_running_loop().time
    began = clock()
    await asyncio.gather(*(attempt(gate, WELL) for _ in range(turns)))
    assert clock() - began >= least


async def test_closed_it_lets_nobody_pass_who_waits() -> None:
    gate = Gate(1, None, 60.0)
    await failing(gate)
    waiting = [asyncio.create_task(attempt(gate, WELL)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.close()
    for each in waiting:
        with pytest.raises(Closed):
            await asyncio.wait_for(each, SOON)
    with suppress(Closed):
        await attempt(gate, WELL)
        pytest.fail("it is closed")
