"""`send`, `send_many`, `execute` and `dispatch` take the same keywords, with the same effect, in both clients."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, texts_of
from tests.contract.deployments import Deployment, client_of
from tests.contract.hearing import take

from turnstream import (
    AddMessage,
    CreateSession,
    InvalidCommand,
    Trace,
    Turnstream,
    UpdateTokenMetrics,
    sync,
    user_message,
)
from turnstream.commands import Command, CommandResult
from turnstream.errors import DuplicateMismatch, Overloaded

TRACE = Trace("request-1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

Call = Callable[..., Awaitable[Any]]


async def _send_many(
    ts: Turnstream,
    command: Command[Any],
    command_id: str | None = None,
    **keywords: Any,  # noqa: ANN401 - of any of the four
) -> None:
    (ticket,) = await ts.send_many([command if command_id is None else (command, command_id)], **keywords)
    await ticket


async def _send(ts: Turnstream, command: Command[Any], **keywords: Any) -> None:  # noqa: ANN401 - of any of the four
    await (await ts.send(command, **keywords))


CALLS: dict[str, Call] = {
    "send": _send,
    "send_many": _send_many,
    "execute": Turnstream.execute,
    "dispatch": Turnstream.dispatch,
}

each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.mark.parametrize("client", [Turnstream, sync.Turnstream], ids=["async", "sync"])
def test_the_keywords_are_the_same(client: type[Any]) -> None:
    def keywords(name: str) -> list[tuple[str, object, object]]:
        parameters = inspect.signature(getattr(client, name)).parameters.values()
        return [(p.name, p.annotation, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY]

    of_send = keywords("send")
    assert [name for name, _, _ in of_send] == ["command_id", "timeout", "when_full", "trace", "apply_within"]
    assert keywords("execute") == keywords("dispatch") == of_send
    # The id of each command is in its pair.
    assert keywords("send_many") == [keyword for keyword in of_send if keyword[0] != "command_id"]


@each_call
async def test_events_carry_the_id_and_the_trace_of_their_command(ts: Turnstream, call: Call) -> None:
    session = await a_session(ts)
    async with ts.subscribe() as events:
        await call(ts, UpdateTokenMetrics(session.id, prompt_tokens=10), command_id="mine", trace=TRACE)
        await call(ts, UpdateTokenMetrics(session.id, prompt_tokens=20), command_id="other")
        first, second = [event.meta for event in await take(events, 2)]
    assert first is not None
    assert second is not None
    assert (first.command_id, first.correlation_id, first.traceparent) == ("mine", *_fields(TRACE))
    assert (second.command_id, second.correlation_id, second.traceparent) == ("other", None, None)


@each_call
async def test_a_command_under_an_id_that_was_used_is_applied_once(ts: Turnstream, call: Call) -> None:
    session = await a_session(ts)
    command = AddMessage(session.id, user_message("one"))
    for _ in range(2):
        await call(ts, command, command_id="mine")
    assert texts_of(await ts.sessions.messages(session.id)) == ["one"]


@each_call
async def test_another_value_of_when_full_is_refused(ts: Turnstream, call: Call) -> None:
    values: list[object] = [True, "Wait", None, []]
    for wrong in values:
        error = await _refusal(call(ts, CreateSession(CONFIG, "s"), when_full=wrong))
        assert error == 'Expected "raise" or "wait" - at `when_full`'
    assert await ts.sessions.count() == 0


@each_call
@pytest.mark.parametrize("overrides", [{"max_backlog": 1, "partitions": 1}])
async def test_on_a_full_partition_a_call_fails_at_once_or_waits(deployment: Deployment, call: Call) -> None:
    client = await client_of(deployment, worker=False)
    await client.send(CreateSession(CONFIG, "s"))
    choices: list[dict[str, str]] = [{}, {"when_full": "raise"}]
    for keywords in choices:
        with pytest.raises(Overloaded):
            await call(client, UpdateTokenMetrics("s", prompt_tokens=1), **keywords)
    waiting = asyncio.ensure_future(call(client, UpdateTokenMetrics("s", prompt_tokens=1), when_full="wait"))
    # Its worker makes room.
    ts = await client_of(deployment)
    await waiting
    session = await ts.sessions.get("s")
    assert session is not None
    assert session.version == len(["created", "updated"])


async def test_commands_and_pairs_are_queued_in_their_order(ts: Turnstream) -> None:
    session = await a_session(ts)
    commands = [AddMessage(session.id, user_message(text)) for text in "abc"]
    tickets = await ts.send_many([commands[0], (commands[1], "mine"), commands[2]])
    assert [(await ticket).version for ticket in tickets] == [2, 3, 4]
    assert tickets[1].command_id == "mine"
    assert len({ticket.command_id for ticket in tickets}) == len(tickets)
    assert texts_of(await ts.sessions.messages(session.id)) == ["a", "b", "c"]


async def test_two_commands_under_one_id_are_refused_before_any_is_sent(ts: Turnstream) -> None:
    session = await a_session(ts)
    commands = [(AddMessage(session.id, user_message(text)), "mine") for text in "ab"]
    with pytest.raises(DuplicateMismatch):
        await ts.send_many([AddMessage(session.id, user_message("zero")), *commands])
    assert texts_of(await ts.sessions.messages(session.id)) == []
    await ts.execute(commands[0][0], command_id="mine")


async def _refusal(calling: Awaitable[Any]) -> str | None:
    """Return why a call is refused: `dispatch` returns that, the others raise it."""
    try:
        result = await calling
    except InvalidCommand as error:
        return str(error)
    assert isinstance(result, CommandResult)
    return result.error


def _fields(trace: Trace) -> tuple[str | None, str | None]:
    return trace.correlation_id, trace.traceparent
