"""`apply_within`: past it, by the server's clock, a command is not applied but answered `CommandExpired`."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from tests.contract.chats import CONFIG, a_session, texts_of
from tests.contract.deployments import Deployment, client_of
from tests.contract.test_parking import BOMB, Bug
from tests.contract.workers import worker_of
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, CreateSession, InvalidCommand, Ticket, Turnstream, UpdateTokenMetrics, user_message
from turnstream.commands import CommandResult, ListSessions
from turnstream.domain.command_specs import HANDLERS
from turnstream.domain.commands import QueueProgress, RedriveParked
from turnstream.errors import CommandExpired, CommandParked
from turnstream.ports import Batch

BRIEF = 0.05
"""Seconds that pass before any worker comes."""

LONG = 10 * SOON
"""Seconds that do not pass in a test."""


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1}


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> Bug:
    made = Bug()
    monkeypatch.setitem(cast("dict[Any, Any]", HANDLERS), UpdateTokenMetrics, made.decide)
    return made


async def passed(seconds: float) -> None:
    """Wait until seconds have passed by the clock that servers use, from now on."""
    end = time.time() + seconds
    await wait_until(lambda: time.time() > end)


def added(text: str) -> AddMessage:
    return AddMessage("s", user_message(text))


async def told(ticket: Ticket) -> object:
    try:
        return (await ticket).version
    except CommandExpired:
        return CommandExpired


async def test_an_expired_command_is_not_applied_by_a_later_worker(deployment: Deployment) -> None:
    ts = await client_of(deployment, worker=False)
    late = await ts.send(CreateSession(CONFIG, "late"), apply_within=BRIEF)
    timely = await ts.send(CreateSession(CONFIG, "timely"), apply_within=LONG)
    await passed(2 * BRIEF)
    await worker_of(deployment)
    assert (await timely).version == 1
    with pytest.raises(CommandExpired) as raised:
        await late
    assert (raised.value.session_id, raised.value.command_id) == ("late", late.command_id)
    # Some of it may have passed before it was queued.
    assert 0 <= raised.value.apply_within_ms <= 50
    assert not await ts.sessions.exists("late")
    assert await ts.sessions.exists("timely")
    assert [event.session_id for event in await deployment.events(0)] == ["timely"]


async def test_a_resend_gets_the_answer_of_the_first_time(deployment: Deployment) -> None:
    ts = await client_of(deployment, worker=False)
    command = CreateSession(CONFIG, "s")
    await ts.send(command, command_id="c1", apply_within=BRIEF)
    await passed(2 * BRIEF)
    await worker_of(deployment)
    other = await client_of(deployment, worker=False)
    for apply_within in (None, LONG, BRIEF):
        with pytest.raises(CommandExpired):
            await other.execute(command, command_id="c1", apply_within=apply_within)
    # Under another id it is another command.
    assert (await other.execute(command)).id == "s"


async def test_others_of_the_same_batch_are_applied_in_their_order(deployment: Deployment) -> None:
    """Each of several times ends independently."""
    ts = await client_of(deployment, worker=False)
    times = [None, BRIEF, LONG, BRIEF / 2, None, BRIEF * 1.5, LONG]
    tickets = [await ts.send(CreateSession(CONFIG, "s"))]
    tickets += [await ts.send(added(str(n)), apply_within=within) for n, within in enumerate(times)]
    await passed(2 * BRIEF)
    await worker_of(deployment)
    assert [await told(t) for t in tickets] == [1, 2, CommandExpired, 3, CommandExpired, 4, CommandExpired, 5]
    assert texts_of(await ts.sessions.messages("s")) == ["0", "2", "4", "6"]
    assert [event.version for event in await deployment.events(0)] == [1, 2, 3, 4, 5]


async def test_all_ways_to_send(deployment: Deployment) -> None:
    ts = await client_of(deployment, worker=False)
    many = await ts.send_many([CreateSession(CONFIG, "a"), CreateSession(CONFIG, "b")], apply_within=BRIEF)
    executed = asyncio.ensure_future(ts.execute(CreateSession(CONFIG, "c"), apply_within=BRIEF))
    dispatched = asyncio.ensure_future(ts.dispatch(CreateSession(CONFIG, "d"), apply_within=BRIEF))
    await wait_until(lambda: _backlog_is(deployment, 4))
    await passed(2 * BRIEF)
    await worker_of(deployment)
    assert [await told(ticket) for ticket in many] == [CommandExpired] * 2
    with pytest.raises(CommandExpired):
        await executed
    result = await dispatched
    assert isinstance(result, CommandResult)
    assert (result.success, "was not applied" in str(result.error)) == (False, True)
    assert await ts.sessions.count() == 0


async def test_in_time_it_is_applied(ts: Turnstream) -> None:
    session = await ts.execute(CreateSession(CONFIG, "s"), apply_within=LONG)
    assert (await ts.execute(added("one"), apply_within=LONG)).version == session.version + 1


async def test_a_paused_worker_does_not_apply_it_late(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was decided in time; the time of the write counts."""
    ts = await client_of(deployment, worker=False)
    worker = await worker_of(deployment)
    commit = worker.backend.store.commit

    async def commit_late(batch: Batch) -> None:
        until = batch.until
        if until is not None:
            await wait_until(lambda: time.time() * 1000 > until)
        await commit(batch)

    monkeypatch.setattr(worker.backend.store, "commit", commit_late)
    ticket = await ts.send(CreateSession(CONFIG, "s"), apply_within=20 * BRIEF)
    assert await told(ticket) is CommandExpired
    assert not await ts.sessions.exists("s")
    # And the next one in time.
    assert await told(await ts.send(CreateSession(CONFIG, "t"))) == 1


async def test_a_redrive_does_not_apply_commands_parked_during_it(
    deployment: Deployment, ts: Turnstream, bug: Bug
) -> None:
    await a_session(ts, session_id="s")
    with pytest.raises(CommandParked):
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=BOMB))
    message = added("late")
    with pytest.raises(CommandParked):
        await ts.execute(message, command_id="late", apply_within=BRIEF)
    with pytest.raises(CommandParked):
        await ts.execute(added("timely"), apply_within=LONG)
    await passed(2 * BRIEF)
    bug.fixed = True
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=3, left=0)
    assert texts_of(await ts.sessions.messages("s")) == ["timely"]
    with pytest.raises(CommandExpired):
        await ts.execute(message, command_id="late")


@pytest.mark.parametrize("within", [0, -1.0, math.nan, math.inf, "5", True, 1e10])
async def test_an_invalid_time_is_refused_before_sending(ts: Turnstream, within: Any) -> None:  # noqa: ANN401
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: ts.send(CreateSession(CONFIG, "s"), apply_within=within),
        lambda: ts.send_many([CreateSession(CONFIG, "s")], apply_within=within),
        lambda: ts.execute(CreateSession(CONFIG, "s"), apply_within=within),
    ]
    for call in calls:
        with pytest.raises(InvalidCommand) as raised:
            await call()
        assert raised.value.path == "apply_within"


async def test_only_commands_that_change_a_session_can_have_one(deployment: Deployment, ts: Turnstream) -> None:
    with pytest.raises(InvalidCommand, match="changes a session"):
        await ts.send(ListSessions(), apply_within=LONG)
    with pytest.raises(InvalidCommand, match="changes a session"):
        await ts.send(RedriveParked(session_id="s"), apply_within=LONG)
    await deployment.append(0, {b"id": b"c1", b"type": b"list-sessions", b"data": b"{}", b"applyWithin": b"5"})
    await wait_until(lambda: _malformed_is(deployment, 1))


@pytest.mark.parametrize("value", [b"", b"soon", b"-1", b"1.5", b"99999999999999999999", b"\xff", b" 1"])
async def test_an_entry_with_another_time_is_quarantined(deployment: Deployment, ts: Turnstream, value: bytes) -> None:
    fields = {b"id": b"c1", b"type": b"delete-session", b"data": b'{"sessionId":"s"}', b"applyWithin": value}
    await deployment.append(0, fields)
    await wait_until(lambda: _malformed_is(deployment, 1))
    ((entry,),) = [await deployment.malformed(0)]
    assert "applyWithin" in entry.error


async def _backlog_is(deployment: Deployment, count: int) -> bool:
    return await deployment.backlog(0) == count


async def _malformed_is(deployment: Deployment, count: int) -> bool:
    return len(await deployment.malformed(0)) == count
