"""When an attempt may be made."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest
from tests.waiting import SOON, wait_until

from turnstream_relay.delivery_limiter import FAILURES, CircuitOpen, DeliveryLimiter
from turnstream_relay.response import Answer, Outcome

REST = 0.02
WELL = Answer(Outcome.DELIVERED, "HTTP 200")
BAD = Answer(Outcome.FAILED, "HTTP 500")
BUSY = Answer(Outcome.BUSY, "HTTP 429", 0.05)


async def attempt(gate: DeliveryLimiter, answer: Answer) -> None:
    while True:
        with suppress(CircuitOpen):
            async with gate.permit() as note:
                note(answer)
                return


async def failing(gate: DeliveryLimiter) -> None:
    for _ in range(FAILURES):
        await attempt(gate, BAD)
    assert gate.is_paused


async def test_failures_in_a_row_bring_a_rest_and_a_success_ends_it() -> None:
    gate = DeliveryLimiter(2, None, REST)
    for _ in range(FAILURES - 1):
        await attempt(gate, BAD)
    await attempt(gate, WELL)
    await attempt(gate, BAD)
    assert not gate.is_paused
    await failing(gate)
    await asyncio.wait_for(attempt(gate, WELL), SOON)
    assert not gate.is_paused


async def test_one_at_a_time_tries_whether_the_endpoint_is_back() -> None:
    gate, inside, back = DeliveryLimiter(8, None, REST), 0, asyncio.Event()
    await failing(gate)

    async def one() -> None:
        nonlocal inside
        async with gate.permit() as note:
            inside += 1
            await back.wait()
            note(WELL)

    waiting = [asyncio.create_task(one()) for _ in range(8)]
    # The others lose patience, which gives their partitions free.
    await wait_until(lambda: sum(task.done() for task in waiting) == 7)
    assert inside == 1
    back.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends if end] == [CircuitOpen] * 7
    assert not gate.is_paused


async def test_a_cancelled_probe_lets_another_one_start() -> None:
    gate, tries = DeliveryLimiter(2, None, REST), asyncio.Event()
    await failing(gate)

    async def hangs() -> None:
        async with gate.permit():
            tries.set()
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hangs())
    await asyncio.wait_for(tries.wait(), SOON)
    other = asyncio.create_task(attempt(gate, WELL))
    hanging.cancel()
    await asyncio.wait_for(other, SOON)
    assert not gate.is_paused


async def test_many_busy_answers_are_one_rest() -> None:
    gate = DeliveryLimiter(8, None, 60.0)
    async with AsyncExitStack() as turns:
        notes = [await turns.enter_async_context(gate.permit()) for _ in range(8)]
        for note in notes:
            note(Answer(Outcome.BUSY, "HTTP 429"))
    assert gate._backoff._failures == 1


async def test_an_earlier_delivery_cannot_close_the_circuit_but_may_keep_it_open_longer() -> None:
    gate = DeliveryLimiter(3, None, REST)
    async with gate.permit() as busy, gate.permit() as late, gate.permit() as later:
        busy(BUSY._replace(wait=600.0))
        until = gate._paused_until
        assert until
        late(WELL)
        late(BAD)
        assert gate._paused_until == until
        later(BUSY._replace(wait=3600.0))
        assert (gate._paused_until or 0.0) >= until + 2900


async def test_a_busy_endpoint_opens_the_circuit_at_once_for_as_long_as_it_asks() -> None:
    gate, clock = DeliveryLimiter(2, None, REST), asyncio.get_running_loop().time
    began = clock()
    await attempt(gate, BUSY)
    assert gate.is_paused
    await asyncio.wait_for(attempt(gate, WELL), SOON)
    assert clock() - began >= 0.05


async def test_rests_become_longer() -> None:
    gate, rests, clock = DeliveryLimiter(1, None, 3600.0), list[float](), asyncio.get_running_loop().time
    await failing(gate)
    for _ in range(6):
        assert gate._paused_until
        rests.append(gate._paused_until - clock())
        # After the backoff, whenever that is.
        gate._paused_until = clock()
        await asyncio.wait_for(attempt(gate, BAD), SOON)
    assert all(longer > shorter for shorter, longer in zip(rests, rests[2:], strict=False))
    assert rests[5] > 10


async def test_no_more_at_a_time_than_may_be() -> None:
    gate, inside, most = DeliveryLimiter(3, None, REST), 0, 0

    async def one() -> None:
        nonlocal inside, most
        async with gate.permit():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(20)))
    assert most == 3


async def test_an_open_or_closed_circuit_also_holds_for_deliveries_waiting_for_the_rate() -> None:
    gate = DeliveryLimiter(8, 0.5, 3600.0)
    await attempt(gate, WELL)
    passed = 0

    async def one() -> None:
        nonlocal passed
        async with gate.permit():
            passed += 1

    waiting = [asyncio.create_task(one()) for _ in range(4)]
    await asyncio.sleep(0)
    gate.close()
    ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), SOON)
    assert [type(end) for end in ends] == [CircuitOpen] * 4
    assert passed == 0


@pytest.mark.parametrize(("rate", "turns", "least"), [(100.0, 31, 0.3), (5.0, 3, 0.4)])
async def test_no_more_a_second_than_may_be(rate: float, turns: int, least: float) -> None:
    gate, clock = DeliveryLimiter(100, rate, REST), asyncio.get_running_loop().time
    began = clock()
    await asyncio.gather(*(attempt(gate, WELL) for _ in range(turns)))
    assert clock() - began >= least


async def test_closing_it_turns_waiters_away() -> None:
    gate = DeliveryLimiter(1, None, 60.0)
    await failing(gate)
    waiting = [asyncio.create_task(_turn(gate)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.close()
    for each in (*waiting, asyncio.create_task(_turn(gate))):
        with pytest.raises(CircuitOpen, match="the relay stops"):
            await asyncio.wait_for(each, SOON)


async def _turn(gate: DeliveryLimiter) -> None:
    async with gate.permit():
        pytest.fail("it is closed")


async def retried(gate: DeliveryLimiter, answer: Answer) -> None:
    async with gate.permit(retries=True) as note:
        note(answer)


async def test_a_retry_does_not_open_the_circuit() -> None:
    gate = DeliveryLimiter(2, None, REST)
    for _ in range(2 * FAILURES):
        await retried(gate, BAD)
    assert not gate.is_paused
    await failing(gate)
    await asyncio.wait_for(attempt(gate, WELL), SOON)
    for answer in (BUSY, Answer(Outcome.UNREACHABLE, "refused")):
        for _ in range(FAILURES):
            with suppress(CircuitOpen):
                await retried(gate, answer)
        await rests(gate)
        await asyncio.wait_for(attempt(gate, WELL), SOON)


async def rests(gate: DeliveryLimiter) -> None:
    assert gate.is_paused


async def test_retries_let_other_events_probe_an_open_circuit_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[None] = []
    gate = DeliveryLimiter(1, None, 3600.0, lambda: opened.append(None))
    await failing(gate)
    with pytest.raises(CircuitOpen, match="paused"):
        await retried(gate, WELL)
    monkeypatch.setattr("turnstream_relay.delivery_limiter.MAX_WAIT_S", 0.0)
    await wait_until(lambda: _passes(gate, BAD))
    # Its failure changes nothing: another may try at once.
    async with gate.permit() as note:
        note(WELL)
    assert opened == [None]


async def _passes(gate: DeliveryLimiter, answer: Answer) -> bool:
    with suppress(CircuitOpen):
        await retried(gate, answer)
        return True
    return False
