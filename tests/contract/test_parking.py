"""A command that cannot be applied parks only its own session; operators redrive and discard (design §4)."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from tests.contract.chats import CONFIG, a_session, messages_of, texts_of
from tests.contract.deployments import Deployment, client_of, opened
from tests.contract.hearing import take
from tests.waiting import time_passes, wait_until

from turnstream import (
    AddMessage,
    CreateSession,
    DeleteSession,
    Rejected,
    Ticket,
    Turnstream,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.application import processor
from turnstream.codec import envelope as codec
from turnstream.codec.records import decode_replies
from turnstream.commands import Command, GetSession
from turnstream.domain.command_specs import HANDLERS
from turnstream.domain.commands import DiscardParked, QueueProgress, RedriveParked
from turnstream.domain.handlers import Context, Decision, SessionView
from turnstream.errors import CommandDiscarded, CommandParked, DuplicateMismatch, InvalidCommand, ParkedQueueFull
from turnstream.events import MessageAdded

BOMB = 13
"""Tokens on which the code has a bug, as long as it is there."""


class Bug:
    """A bug in the worker's code, until it is fixed."""

    def __init__(self) -> None:
        self.fixed = False
        self.tokens = {BOMB}
        self._correct = HANDLERS[UpdateTokenMetrics]

    def decide(self, view: SessionView, command: UpdateTokenMetrics, context: Context) -> Decision:
        if not self.fixed and command.prompt_tokens in self.tokens:
            raise ZeroDivisionError
        return self._correct(view, command, context)


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1, "parked_commands": 50}


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> Bug:
    bug = Bug()
    monkeypatch.setitem(cast("dict[Any, Any]", HANDLERS), UpdateTokenMetrics, bug.decide)
    return bug


def bomb(session_id: str = "s") -> UpdateTokenMetrics:
    return UpdateTokenMetrics(session_id, prompt_tokens=BOMB)


def added(text: str, session_id: str = "s") -> AddMessage:
    return AddMessage(session_id, user_message(text))


async def told(ticket: Ticket) -> object:
    """Return the answer that a producer gets: a version, or the class of an error."""
    try:
        return (await ticket).version
    except (Rejected, CommandParked) as error:
        return type(error)


async def park(ts: Turnstream, *behind: Command[Any], session_id: str = "s") -> list[object]:
    """Create a session, park it, and send commands behind."""
    await a_session(ts, session_id=session_id)
    tickets = await ts.send_many([bomb(session_id), *behind])
    return [await told(ticket) for ticket in tickets]


async def waiting(ts: Turnstream, session_id: str = "s") -> list[str]:
    return [each.type for each in [waiting async for waiting in ts.admin.parked.show(session_id)]]


# ── parking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_the_session_is_parked(ts: Turnstream, bug: Bug) -> None:
    tickets = await ts.send_many(
        [
            *(CreateSession(CONFIG, "s"), CreateSession(CONFIG, "t"), added("one"), added("one", "t")),
            *(bomb(), added("two", "t"), added("two"), bomb("u"), CreateSession(CONFIG, "u"), added("three", "t")),
        ]
    )
    parked = CommandParked
    assert [await told(ticket) for ticket in tickets] == [1, 1, 2, 2, parked, 3, parked, parked, parked, 4]
    assert texts_of(await ts.sessions.messages("s")) == ["one"]
    assert texts_of(await ts.sessions.messages("t")) == ["one", "two", "three"]
    infos = [each async for each in ts.admin.parked.list()]
    assert [(info.session_id, info.commands) for info in infos] == [("s", 2), ("u", 2)]
    assert all(info.error == "The worker failed on it: ZeroDivisionError" and info.size > 100 for info in infos)


async def test_the_error_names_the_session_and_the_command(ts: Turnstream, bug: Bug) -> None:
    await a_session(ts, session_id="s")
    with pytest.raises(CommandParked) as error:
        await ts.execute(bomb(), command_id="mine")
    assert (error.value.session_id, error.value.command_id) == ("s", "mine")
    with pytest.raises(CommandParked):
        await ts.dispatch(added("behind"))


async def test_a_resend_is_answered_again_and_not_parked_twice(
    deployment: Deployment, ts: Turnstream, bug: Bug
) -> None:
    await a_session(ts, session_id="s")
    for _ in range(3):
        with pytest.raises(CommandParked):
            await ts.execute(bomb(), command_id="mine")
    another = await client_of(deployment, worker=False)
    tickets = [await client.send(bomb(), command_id="mine") for client in (ts, another)]
    assert [await told(ticket) for ticket in tickets] == [CommandParked, CommandParked]
    with pytest.raises(DuplicateMismatch):
        await ts.execute(added("another"), command_id="mine")
    assert await waiting(ts) == ["update-token-metrics"]


async def test_queries_on_a_parked_session_are_answered(ts: Turnstream, bug: Bug) -> None:
    await park(ts, added("one"))
    session = await ts.execute(GetSession("s"))
    assert session is not None
    assert session.version == 1
    assert (await (await ts.send(GetSession("s")))).version == 1


async def test_the_next_owner_parks_on(deployment: Deployment, bug: Bug) -> None:
    first = await client_of(deployment)
    await park(first, added("one"))
    await first.aclose()
    second = await client_of(deployment)
    with pytest.raises(CommandParked):
        await second.execute(added("two"))
    bug.fixed = True
    assert await second.admin.parked.redrive("s") == QueueProgress(done=3, left=0)
    assert texts_of(await second.sessions.messages("s")) == ["one", "two"]


async def test_more_than_may_wait_are_rejected(deployment: Deployment, ts: Turnstream, bug: Bug) -> None:
    answers = await park(ts, *(added(str(number)) for number in range(60)))
    assert answers == [CommandParked] * 50 + [ParkedQueueFull] * 11
    with pytest.raises(ParkedQueueFull, match=r"50 commands.*redrive or discard"):
        await ts.execute(added("more"), command_id="again")
    # Another session's bug finds no room; it is refused, and the session continues.
    await a_session(ts, session_id="t")
    with pytest.raises(ParkedQueueFull):
        await ts.execute(bomb("t"))
    await ts.execute(added("one", "t"))
    bug.fixed = True
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=50, left=0)
    # A refused command stays refused under its id, and fits under a new one.
    with pytest.raises((ParkedQueueFull, DuplicateMismatch)):
        await ts.execute(added("more"), command_id="again")
    assert len((await ts.execute(added("more"))).messages) == 50


@pytest.mark.parametrize("overrides", [{"partitions": 1, "parked_bytes": 5_000}])
async def test_bytes_are_bounded_too(ts: Turnstream, bug: Bug) -> None:
    assert await park(ts, added("x" * 6_000), added("small")) == [CommandParked, ParkedQueueFull, CommandParked]


# ── redrive ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_redriven_commands_are_applied_in_order_and_answered(
    deployment: Deployment, ts: Turnstream, bug: Bug
) -> None:
    await a_session(ts, session_id="s")
    commands = [bomb(), added("one"), added("two"), UpdateTokenMetrics("s", prompt_tokens=1)]
    for number, command in enumerate(commands):
        with pytest.raises(CommandParked):
            await ts.execute(command, command_id=f"c{number}")
    bug.fixed = True
    heard = await (await opened(deployment)).channels.subscribe([ts._gateway.channels[0]])
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=4, left=0)
    replies = decode_replies((await anext(aiter(heard)))[1])
    assert [(reply.command_id, reply.status) for reply in replies[:4]] == [(f"c{n}", "ok") for n in range(4)]
    await heard.aclose()
    assert [each async for each in ts.admin.parked.list()] == []
    assert [name for name in await deployment.names() if "parked" in name] == []
    # The outcomes are the real ones now, and a resend does nothing.
    resent = [await ts.send(command, command_id=f"c{number}") for number, command in enumerate(commands)]
    assert [await told(ticket) for ticket in resent] == [2, 3, 4, 5]
    session = await ts.execute(added("three"))
    assert (texts_of(session.messages), session.version) == (["one", "two", "three"], 6)
    events = await deployment.events(0)
    assert [event.version for event in events if event.session_id == "s"] == [1, 2, 3, 4, 5, 6]


async def test_rejections_do_not_stop_a_redrive(ts: Turnstream, bug: Bug) -> None:
    message = user_message("one")
    await park(ts, AddMessage("s", message), AddMessage("s", message), added("two"))
    bug.fixed = True
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=4, left=0)
    assert texts_of(await ts.sessions.messages("s")) == ["one", "two"]


async def test_a_redrive_that_fails_leaves_the_queue_and_says_so(ts: Turnstream, bug: Bug) -> None:
    await park(ts, added("one"), UpdateTokenMetrics("s", prompt_tokens=14), added("two"))
    failed = "The worker failed on it: ZeroDivisionError"
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=0, left=4, error=failed)
    bug.tokens = {14}
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=2, left=2, error=failed)
    (info,) = [each async for each in ts.admin.parked.list()]
    assert (info.commands, info.error) == (2, failed)
    assert await waiting(ts) == ["update-token-metrics", "add-message"]
    bug.fixed = True
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=2, left=0)
    assert texts_of(await ts.sessions.messages("s")) == ["one", "two"]


async def test_a_redrive_of_a_session_that_is_not_parked(ts: Turnstream) -> None:
    await a_session(ts, "one", session_id="s")
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=0, left=0)
    assert await ts.admin.parked.discard("s") == QueueProgress(done=0, left=0)
    assert await ts.admin.parked.discard("nobody", everything=True) == QueueProgress(done=0, left=0)


async def test_a_long_queue_is_redriven_in_pieces(ts: Turnstream, bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """While new commands come: they queue behind."""
    monkeypatch.setattr(processor, "COMMANDS_PER_COMMIT", 8)
    await park(ts, *(added(str(number)) for number in range(40)))
    bug.fixed = True
    operation = RedriveParked(session_id="s")
    assert await ts.execute(operation) == QueueProgress(done=8, left=33)
    with pytest.raises(CommandParked):
        await ts.execute(added("40"))
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=34, left=0)
    assert texts_of(await ts.sessions.messages("s")) == [str(number) for number in range(41)]


async def test_a_resent_operation_is_done_once(ts: Turnstream, bug: Bug) -> None:
    await park(ts, added("one"), added("two"))
    first = DiscardParked(session_id="s", limit=1)
    for _ in range(3):
        assert (await ts.execute(first, command_id="mine")).left == 2
    assert await waiting(ts) == ["add-message", "add-message"]
    with pytest.raises(DuplicateMismatch):
        await ts.execute(DiscardParked(session_id="s", limit=2), command_id="mine")


async def test_a_session_that_is_deleted_and_created_while_it_is_parked(ts: Turnstream, bug: Bug) -> None:
    await park(ts, added("one"), DeleteSession("s"), CreateSession(CONFIG, "s"), added("two"), DeleteSession("t"))
    bug.fixed = True
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=5, left=0)
    session = await ts.execute(GetSession("s"))
    assert session is not None
    assert (texts_of(session.messages), session.version) == (["two"], 2)


async def test_commands_flow_while_sessions_are_parked_and_redriven(ts: Turnstream, bug: Bug) -> None:
    for name in ("s", "t"):
        await park(ts, *(added(text, name) for text in "ab"), session_id=name)
    await a_session(ts, session_id="u")
    bug.fixed = True
    sends = [ts.execute(added(str(number), "u")) for number in range(30)]
    *_, one, other = await asyncio.gather(*sends, ts.admin.parked.redrive("s"), ts.admin.parked.redrive("t"))
    assert (one, other) == (QueueProgress(done=3, left=0), QueueProgress(done=3, left=0))
    assert len(await ts.sessions.messages("u")) == 30


# ── discard ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_is_discarded_and_the_rest_redriven(ts: Turnstream, bug: Bug) -> None:
    await a_session(ts, session_id="s")
    with pytest.raises(CommandParked):
        await ts.execute(bomb(), command_id="mine")
    for text in ("one", "two"):
        with pytest.raises(CommandParked):
            await ts.execute(added(text))
    assert await ts.admin.parked.discard("s") == QueueProgress(done=1, left=2)
    with pytest.raises(CommandDiscarded) as error:
        await ts.execute(bomb(), command_id="mine")
    assert (error.value.session_id, error.value.command_id) == ("s", "mine")
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=2, left=0)
    assert texts_of(await ts.sessions.messages("s")) == ["one", "two"]


async def test_everything_is_discarded(ts: Turnstream, bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "COMMANDS_PER_COMMIT", 4)
    await park(ts, *(added(text) for text in "abcdefgh"))
    assert await ts.admin.parked.discard("s", everything=True) == QueueProgress(done=9, left=0)
    assert texts_of((await ts.execute(added("new"))).messages) == ["new"]


@pytest.mark.parametrize("overrides", [{"partitions": 1, "deduplication_window": 0.1}])
async def test_copies_of_a_command_are_redriven_once_also_in_different_pieces(
    ts: Turnstream, bug: Bug, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again after the deduplication window, so the queue holds it twice."""
    monkeypatch.setattr(processor, "COMMANDS_PER_COMMIT", 2)
    await a_session(ts, session_id="s")
    twice = UpdateTokenMetrics("s", prompt_tokens=100)
    for command, command_id in (
        (bomb(), None),
        (twice, "twice"),
        (UpdateTokenMetrics("s", prompt_tokens=7), None),
        (twice, "twice"),
    ):
        with pytest.raises(CommandParked):
            await ts.execute(command, command_id=command_id)
        await time_passes(0.21)
    bug.fixed = True
    assert await ts.admin.parked.redrive("s") == QueueProgress(done=4, left=0)
    session = await ts.sessions.get("s")
    assert session is not None
    assert session.metrics.prompt_tokens == BOMB + 107


async def test_another_head_than_the_operator_saw_stays(ts: Turnstream, bug: Bug) -> None:
    await park(ts, added("one"))
    for operation in (DiscardParked(session_id="s", head="other"), RedriveParked(session_id="s", head="other")):
        with pytest.raises(InvalidCommand, match="head"):
            await ts.execute(operation)
    head = (await anext(ts.admin.parked.show("s"))).command_id
    assert await ts.execute(DiscardParked(session_id="s", head=head, limit=1)) == QueueProgress(done=1, left=1)


async def test_the_shown_command_equals_the_sent_one(ts: Turnstream, bug: Bug) -> None:
    await a_session(ts, session_id="s")
    with pytest.raises(CommandParked):
        await ts.execute(bomb(), command_id="mine")
    (shown,) = [each async for each in ts.admin.parked.show("s")]
    assert (shown.command_id, shown.type, bytes(shown.data)) == (
        *("mine", "update-token-metrics"),
        b'{"sessionId":"s","promptTokens":13}',
    )


# ── malformed entries ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_malformed_entry_is_redriven_when_workers_can_read_it(
    deployment: Deployment, ts: Turnstream, bug: Bug
) -> None:
    await deployment.append(0, {b"id": b"c1", b"type": b"not-yet", b"data": b"{}", b"other": b"\xff"})
    await deployment.append(0, {b"id": b"c2"})
    await wait_until(lambda: _listed(ts, 2))
    first, second = [each async for each in ts.admin.malformed.list()]
    assert first.fields == {"id": "c1", "type": "not-yet", "data": "{}", "other": "�"}
    assert "not-yet" in first.error
    assert await ts.admin.malformed.show(second.id) == second
    assert await ts.admin.malformed.redrive(first.id)
    # The worker still cannot read it: it returns after the other.
    await wait_until(lambda: _listed(ts, 2))
    ids = [each.id async for each in ts.admin.malformed.list()]
    assert ids[0] == second.id
    assert ids[1] != first.id
    assert not await ts.admin.malformed.redrive(first.id)
    assert await ts.admin.malformed.discard(second.id)
    assert not await ts.admin.malformed.discard(second.id)
    assert await ts.admin.malformed.show(second.id) is None


async def test_a_shortened_entry_is_not_redriven(deployment: Deployment, ts: Turnstream) -> None:
    await deployment.append(0, {b"id": b"c1", b"data": b"x" * 70_000})
    await wait_until(lambda: _listed(ts, 1))
    (entry,) = [each async for each in ts.admin.malformed.list()]
    assert entry.shortened
    with pytest.raises(InvalidCommand, match="too large to be stored"):
        await ts.admin.malformed.redrive(entry.id)
    assert await ts.admin.malformed.discard(entry.id)
    for wrong in ("", "0", "9:1-0", "0:x", "x:1-0"):
        with pytest.raises(InvalidCommand, match="id of a malformed entry"):
            await ts.admin.malformed.discard(wrong)


async def test_a_redriven_entry_is_applied_when_it_can_be_read(
    deployment: Deployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was older than the producer, and is upgraded."""
    with monkeypatch.context() as older:
        older.delitem(codec._decoders, "create-session")
        data = b'{"config":{"provider":"openai","model":"gpt-4"},"sessionId":"s"}'
        await deployment.append(0, {b"id": b"c1", b"type": b"create-session", b"data": data})
        await wait_until(lambda: _listed(ts, 1))
    (entry,) = [each async for each in ts.admin.malformed.list()]
    assert await ts.admin.malformed.redrive(entry.id)
    await wait_until(lambda: ts.sessions.exists("s"))
    assert await _listed(ts, 0)


async def _listed(ts: Turnstream, count: int) -> bool:
    return len([each async for each in ts.admin.malformed.list()]) == count


async def test_redriven_messages_keep_their_content(ts: Turnstream, bug: Bug) -> None:
    texts = ["ü", "x" * 100_000, '"{}']
    await park(ts, *(AddMessage("s", message) for message in messages_of(texts)))
    bug.fixed = True
    await ts.admin.parked.redrive("s")
    assert texts_of(await ts.sessions.messages("s")) == texts


# ── the times of events ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_redriven_commands_mislead_no_position_by_time(ts: Turnstream, bug: Bug) -> None:
    """Its events are old among the new ones."""
    await park(ts, *(UpdateTokenMetrics("s", prompt_tokens=tokens) for tokens in range(20, 40)))
    await a_session(ts, session_id="t")
    await time_passes()
    since = datetime.now(UTC)
    await time_passes()
    for text in "abcde":
        await ts.execute(added(text, "t"))
    bug.fixed = True
    await ts.admin.parked.redrive("s")
    for text in "vwxyz":
        await ts.execute(added(text, "t"))
    async with ts.subscribe(MessageAdded, start=await ts.position(since)) as events:
        assert [event.version for event in await take(events, 10) if event.session_id == "t"] == list(range(2, 12))
