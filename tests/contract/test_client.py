"""A producer's view: commands, tickets, results and rejections (design §10)."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace
from tests.contract.chats import CONFIG, a_session, id_in, messages_of, texts_of
from tests.contract.deployments import Deployment, client_of, not_on_fakeredis
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.waiting import wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    Applied,
    ChatMessage,
    ChatMessageRole,
    CommandTimeout,
    CreateSession,
    DeleteSession,
    ImageContent,
    InvalidCommand,
    Rejected,
    RemoveMessages,
    Session,
    SessionAlreadyExists,
    SessionConfig,
    SessionNotFound,
    TextContent,
    Ticket,
    ToolCallContent,
    ToolResultContent,
    Turnstream,
    Unavailable,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
    VersionConflict,
    assistant_message,
    summary_message,
    system_message,
    tool_message,
    user_message,
)
from turnstream.catalogue import PriceSource
from turnstream.commands import (
    UNSET,
    ChatMessagePatch,
    Command,
    CommandResult,
    GetSession,
    ListSessions,
    RemovedMessage,
    SessionConfigPatch,
    SessionPatch,
    TokenMetricsPatch,
)
from turnstream.errors import MessageAlreadyExists, MessageNotFound, Overloaded, SessionGone
from turnstream.settings import Settings

AT_ONCE = 0.0
MANY = 5_000


# ── the result of every command ──────────────────────────────────────────────────────────────────────────────────────


async def test_create_session(ts: Turnstream) -> None:
    config = SessionConfig(
        "openai",
        "gpt-4",
        system_prompt="Be brief.",
        temperature=0.7,
        max_tokens=500,
        context_strategy="truncate",
        tools=("search",),
        provider_options={"seed": 1},
    )
    session = await ts.execute(CreateSession(config, metadata={"user": "ü"}))
    assert UUID(session.id).version == 7
    assert (session.version, session.is_active, session.metadata) == (1, True, {"user": "ü"})
    assert session.config == config
    assert session.config.tools == ("search",)
    assert session.created_at == session.updated_at
    assert session.created_at.tzinfo == UTC
    (prompt,) = session.messages
    assert (prompt.role, prompt.content) == (ChatMessageRole.SYSTEM, (TextContent("Be brief."),))
    metrics = session.metrics
    assert (metrics.total_tokens, metrics.estimated_cost, metrics.max_context_window) == (0, 0.0, 8_192)


async def test_create_session_under_an_id(ts: Turnstream) -> None:
    session = await ts.execute(CreateSession(CONFIG, "chat/1:ü {x}"))
    assert (session.id, session.messages, session.metadata) == ("chat/1:ü {x}", (), None)
    assert await ts.execute(GetSession("chat/1:ü {x}")) == session


async def test_get_session(ts: Turnstream) -> None:
    session = await a_session(ts, "one")
    assert await ts.execute(GetSession(session.id)) == session
    assert await ts.execute(GetSession(session.id, expected_version=2)) == session
    assert await ts.execute(GetSession("none")) is None
    with pytest.raises(VersionConflict):
        await ts.execute(GetSession(session.id, expected_version=1))


async def test_update_session_merges_one_level(ts: Turnstream) -> None:
    config = SessionConfig("openai", "gpt-4", temperature=0.5, max_tokens=5, tools=("a",), provider_options={"a": 1})
    created = await ts.execute(CreateSession(config, metadata={"kept": 1}))
    patch = SessionPatch(
        config=SessionConfigPatch(temperature=0.8, max_tokens=None, provider_options={"b": 2}),
        metrics=TokenMetricsPatch(prompt_tokens=7),
        is_active=False,
    )
    updated = await ts.execute(UpdateSession(created.id, patch))
    assert updated.config == SessionConfig("openai", "gpt-4", temperature=0.8, tools=("a",), provider_options={"b": 2})
    assert (updated.metrics.prompt_tokens, updated.metrics.max_context_window) == (7, 8_192)
    assert (updated.is_active, updated.metadata, updated.version) == (False, {"kept": 1}, 2)
    assert (updated.id, updated.created_at) == (created.id, created.created_at)


async def test_update_session_replaces_messages_and_metadata(ts: Turnstream) -> None:
    session = await a_session(ts, "one", "two")
    kept = session.messages[1]
    updates = SessionPatch(messages=(summary_message("All before"), kept), metadata={"b": 2})
    updated = await ts.execute(UpdateSession(session.id, updates))
    assert texts_of(updated.messages) == ["All before", "two"]
    assert updated.messages[1] == kept
    cleared = await ts.execute(UpdateSession(session.id, SessionPatch(messages=(), metadata=None)))
    assert (cleared.messages, cleared.metadata) == ((), None)


async def test_empty_patches_are_accepted(ts: Turnstream) -> None:
    session = await a_session(ts, "one")
    assert (await ts.execute(UpdateSession(session.id, SessionPatch()))).version == 3
    after = await ts.execute(UpdateMessage(session.id, session.messages[0].id, updates=ChatMessagePatch()))
    assert (after.version, after.messages) == (4, session.messages)


async def test_another_model_brings_its_window(ts: Turnstream) -> None:
    session = await a_session(ts)
    await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=4_096))
    patch = SessionPatch(config=SessionConfigPatch(model="gpt-4o"))
    metrics = (await ts.execute(UpdateSession(session.id, patch))).metrics
    assert (metrics.max_context_window, metrics.context_utilization) == (128_000, 4_096 / 128_000)


async def test_delete_session(ts: Turnstream) -> None:
    session = await a_session(ts, "one")
    assert await ts.execute(DeleteSession(session.id)) is True
    assert await ts.execute(GetSession(session.id)) is None
    assert await ts.execute(DeleteSession(session.id)) is False


async def test_a_session_is_created_again_after_its_deletion(ts: Turnstream) -> None:
    first = await a_session(ts, "one", "two", session_id="again")
    await ts.execute(DeleteSession("again"))
    second = await ts.execute(CreateSession(CONFIG, "again"))
    assert (second.version, second.messages) == (1, ())
    assert second.created_at >= first.created_at
    assert texts_of((await ts.execute(AddMessage("again", user_message("new")))).messages) == ["new"]


async def test_add_message(ts: Turnstream) -> None:
    session = await a_session(ts)
    message = assistant_message(
        [
            TextContent(""),
            ImageContent(url="https://example.org/a.png", detail="low", alt_text="A picture"),
            ToolCallContent(tool_call_id="call-1", name="search", args={"camelCase": {"snake_case": [1, None]}}),
            ToolResultContent("call-1", "{}"),
        ]
    )
    after = await ts.execute(AddMessage(session.id, message))
    assert after.messages == (message,)
    answer = tool_message("call-1", "42")
    after = await ts.execute(AddMessage(session.id, answer))
    assert after.messages == (message, answer)
    assert (after.messages[1].tool_call_id, after.version) == ("call-1", 3)
    assert after.updated_at >= session.updated_at


async def test_add_messages_is_one_step(ts: Turnstream) -> None:
    session = await a_session(ts)
    after = await ts.execute(AddMessages(session.id, (system_message("a"), user_message("b"), assistant_message("c"))))
    assert (texts_of(after.messages), after.version) == (["a", "b", "c"], 2)
    repeated = (user_message("d"), after.messages[1])
    with pytest.raises(MessageAlreadyExists):
        await ts.execute(AddMessages(session.id, repeated))
    assert await ts.execute(GetSession(session.id)) == after
    assert (await ts.execute(AddMessages(session.id, ()))).version == 2


async def test_update_message(ts: Turnstream) -> None:
    session = await a_session(ts, "one", "two")
    first, second = session.messages
    patch = ChatMessagePatch(role=ChatMessageRole.ASSISTANT, content=(TextContent("ONE"),), metadata={"edited": True})
    after = await ts.execute(UpdateMessage(session.id, first.id, updates=patch))
    changed, same = after.messages
    assert (changed.id, changed.created_at) == (first.id, first.created_at)
    assert (changed.role, changed.content, changed.metadata) == (patch.role, (TextContent("ONE"),), {"edited": True})
    assert (same, after.version) == (second, 3)
    cleared = await ts.execute(
        UpdateMessage(session.id, first.id, updates=ChatMessagePatch(metadata=None, content=UNSET))
    )
    assert (cleared.messages[0].metadata, cleared.messages[0].content) == (None, (TextContent("ONE"),))


async def test_update_token_metrics(ts: Turnstream) -> None:
    session = await a_session(ts)
    metrics = (await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=1_000, completion_tokens=500))).metrics
    assert (metrics.prompt_tokens, metrics.completion_tokens, metrics.total_tokens) == (1_000, 500, 1_500)
    assert metrics.estimated_cost == pytest.approx(0.06)
    assert metrics.price_source is not PriceSource.UNKNOWN
    again = (await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=1_000, context_tokens=2_048))).metrics
    assert (again.total_tokens, again.context_tokens, again.context_utilization) == (2_500, 2_048, 0.25)
    untouched = await ts.execute(UpdateTokenMetrics(session.id))
    assert (untouched.metrics.total_tokens, untouched.version) == (2_500, 4)


async def test_remove_messages_by_ids(ts: Turnstream) -> None:
    session = await a_session(ts, "one", "two", "three")
    one, two, three = session.messages
    assert set(await ts.execute(RemoveMessages(session.id, message_ids=(three.id, one.id)))) == {one, three}
    after = await ts.execute(GetSession(session.id))
    assert after is not None
    assert (after.messages, after.version) == ((two,), 3)
    with pytest.raises(MessageNotFound):
        await ts.execute(RemoveMessages(session.id, message_ids=(two.id, one.id)))
    assert await ts.execute(GetSession(session.id)) == after


async def test_remove_the_last_messages(ts: Turnstream) -> None:
    session = await a_session(ts, "one", "two", "three")
    assert await ts.execute(RemoveMessages(session.id, last=2)) == session.messages[1:]
    assert await ts.execute(RemoveMessages(session.id, last=9)) == session.messages[:1]
    assert await ts.execute(RemoveMessages(session.id, last=1)) == ()


async def test_removed_messages_are_returned_whole_up_to_64_kib(ts: Turnstream) -> None:
    session = await a_session(ts, "x" * 61_000, "y" * 5_000, "z" * 5_000)
    assert await ts.execute(RemoveMessages(session.id, last=1)) == session.messages[2:]
    removed = await ts.execute(RemoveMessages(session.id, last=2))
    assert removed == tuple(RemovedMessage(message.id) for message in session.messages[:2])


async def test_list_sessions(ts: Turnstream) -> None:
    sessions = [await a_session(ts) for _ in range(3)]
    page = await ts.execute(ListSessions(limit=2))
    assert len(page.sessions) == 2
    rest = await ts.execute(ListSessions(cursor=page.next_cursor))
    assert {info.id for info in (*page.sessions, *rest.sessions)} == {session.id for session in sessions}
    assert rest.next_cursor is None


def same(found: Sequence[ChatMessage], expected: Sequence[ChatMessage]) -> bool:
    """Compare long sequences without printing their difference."""
    return list(found) == list(expected)


@not_on_fakeredis
async def test_thousands_of_messages_in_one_command(ts: Turnstream) -> None:
    session = await a_session(ts)
    many = messages_of(map(str, range(MANY)))
    after = await ts.execute(AddMessages(session.id, many))
    assert after.version == 2
    assert same(after.messages, many)
    removed = await ts.execute(RemoveMessages(session.id, message_ids=tuple(message.id for message in many)))
    assert len(removed) == MANY
    refilled = await ts.execute(UpdateSession(session.id, SessionPatch(messages=many)))
    assert same(refilled.messages, many)
    assert len(await ts.execute(RemoveMessages(session.id, last=MANY))) == MANY
    assert await ts.sessions.messages(session.id) == ()


@not_on_fakeredis
async def test_a_message_of_thousands_of_parts(ts: Turnstream) -> None:
    session = await a_session(ts)
    message = user_message([TextContent(str(number)) for number in range(MANY)])
    assert same((await ts.execute(AddMessage(session.id, message))).messages, [message])


# ── rejections ───────────────────────────────────────────────────────────────────────────────────────────────────────

MISSING: list[Command[Any]] = [
    UpdateSession("none", SessionPatch(is_active=False)),
    AddMessage("none", user_message("x")),
    AddMessages("none", (user_message("x"),)),
    UpdateMessage("none", "m", updates=ChatMessagePatch()),
    RemoveMessages("none", last=1),
    UpdateTokenMetrics("none", prompt_tokens=1),
]


@pytest.mark.parametrize("command", MISSING, ids=lambda command: command.type)
async def test_a_missing_session(ts: Turnstream, command: Command[Any]) -> None:
    with pytest.raises(SessionNotFound) as missing:
        await ts.execute(command)
    assert missing.value.session_id == "none"
    assert await ts.dispatch(command) == CommandResult(False, error="Session not found with ID: none")


async def test_messages_of_rejections_are_the_specs(ts: Turnstream) -> None:
    session = await a_session(ts, "one", session_id="s")
    known = session.messages[0].id
    rejected: dict[Command[Any], str] = {
        CreateSession(CONFIG, "s"): "Session already exists with ID: s",
        AddMessage("s", session.messages[0]): f"Message already exists with ID: {known}",
        UpdateMessage("s", "m", updates=ChatMessagePatch()): "Message not found with ID: m",
        RemoveMessages("s", message_ids=(known, "m")): "Message not found with ID: m",
        UpdateSession("s", SessionPatch(), expected_version=9): "Version conflict in session s: expected 9, found 2",
    }
    for command, error in rejected.items():
        assert await ts.dispatch(command) == CommandResult(False, error=error)
    assert await ts.execute(GetSession("s")) == session


async def test_dispatch_returns_the_data_of_a_success(ts: Turnstream) -> None:
    result = await ts.dispatch(CreateSession(CONFIG, "s"))
    assert (result.success, result.error) == (True, None)
    assert isinstance(result.data, Session)
    assert await ts.dispatch(GetSession("s")) == CommandResult(True, result.data)
    assert await ts.dispatch(DeleteSession("s")) == CommandResult(True, True)
    assert await ts.dispatch(GetSession("s")) == CommandResult(True)


async def test_errors_carry_their_fields(ts: Turnstream) -> None:
    session = await a_session(ts, "one", session_id="s")
    with pytest.raises(SessionAlreadyExists) as exists:
        await ts.execute(CreateSession(CONFIG, "s"))
    assert exists.value.session_id == "s"
    with pytest.raises(MessageNotFound) as missing:
        await ts.execute(UpdateMessage("s", "m", updates=ChatMessagePatch()))
    assert (missing.value.session_id, missing.value.message_id) == ("s", "m")
    with pytest.raises(MessageAlreadyExists) as there:
        await ts.execute(AddMessage("s", session.messages[0]))
    assert (there.value.session_id, there.value.message_id) == ("s", session.messages[0].id)
    with pytest.raises(VersionConflict) as conflict:
        await ts.execute(DeleteSession("s", expected_version=1))
    assert (conflict.value.session_id, conflict.value.expected_version, conflict.value.actual_version) == ("s", 1, 2)


async def test_a_rejected_command_changes_nothing(deployment: Deployment, ts: Turnstream) -> None:
    session = await a_session(ts, "one", session_id="s")
    happened = [await deployment.events(partition) for partition in range(4)]
    for command in (
        CreateSession(CONFIG, "s"),
        RemoveMessages("s", message_ids=("m",)),
        AddMessage("s", session.messages[0]),
    ):
        with pytest.raises(Rejected):
            await ts.execute(command)
    assert await ts.execute(DeleteSession("none")) is False
    assert await ts.execute(GetSession("s")) == session
    assert [await deployment.events(partition) for partition in range(4)] == happened


NO_COMMANDS: list[Any] = ["hello", None, 5, Command(), GetSession, user_message("x"), {"type": "get-session"}]


@pytest.mark.parametrize("wrong", NO_COMMANDS, ids=lambda wrong: type(wrong).__name__)
async def test_values_that_are_no_command(ts: Turnstream, wrong: Any) -> None:  # noqa: ANN401
    calls: list[Callable[[Any], Awaitable[object]]] = [ts.send, ts.execute, lambda command: ts.send_many([command])]
    for call in calls:
        with pytest.raises(InvalidCommand, match="Expected a command, got") as invalid:
            await call(wrong)
        assert invalid.value.path == "type"


# ── expected versions ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_change_is_one_version(ts: Turnstream) -> None:
    session = await ts.execute(CreateSession(CONFIG, "s", expected_version=0))
    message = user_message("one")
    changes: list[Command[Any]] = [
        AddMessage("s", message, expected_version=1),
        AddMessages("s", messages_of("ab"), expected_version=2),
        UpdateMessage("s", message.id, updates=ChatMessagePatch(), expected_version=3),
        UpdateTokenMetrics("s", prompt_tokens=9_000, expected_version=4),
        UpdateSession("s", SessionPatch(config=SessionConfigPatch(temperature=0.0)), expected_version=5),
        RemoveMessages("s", last=2, expected_version=6),
    ]
    for version, change in enumerate(changes, session.version + 1):
        assert (await (await ts.send(change))).version == version
    assert await ts.execute(DeleteSession("s", expected_version=7))
    assert await ts.execute(DeleteSession("s", expected_version=0)) is False


@pytest.mark.parametrize("expected", [0, 1, 3, 10**15])
async def test_another_version_is_a_conflict(ts: Turnstream, expected: int) -> None:
    session = await a_session(ts, "one")
    with pytest.raises(VersionConflict):
        await ts.execute(AddMessage(session.id, user_message("two"), expected_version=expected))
    assert await ts.execute(GetSession(session.id)) == session


async def test_of_two_with_the_same_expectation_one_wins(ts: Turnstream) -> None:
    session = await a_session(ts)
    commands = [AddMessage(session.id, user_message(str(n)), expected_version=1) for n in range(5)]
    results = await asyncio.gather(*(ts.dispatch(command) for command in commands))
    assert [result.success for result in results].count(True) == 1


# ── tickets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_ticket_is_awaited_again_and_again(ts: Turnstream) -> None:
    session = await a_session(ts)
    ticket = await ts.send(AddMessage(session.id, user_message("secret")), command_id="my-id")
    assert (ticket.command_id, ticket.session_id) == ("my-id", session.id)
    for _ in range(3):
        assert await ticket == Applied(session.id, 2)
    assert await asyncio.gather(*(_wait(ticket) for _ in range(5))) == [Applied(session.id, 2)] * 5
    assert "secret" not in repr(ticket)


async def _wait(ticket: Ticket) -> Applied:
    return await ticket


async def test_a_rejected_ticket_raises_each_time(ts: Turnstream) -> None:
    ticket = await ts.send(AddMessage("none", user_message("x")))
    for _ in range(3):
        with pytest.raises(SessionNotFound):
            await ticket


async def test_waiting_for_a_ticket_can_be_given_up(ts: Turnstream) -> None:
    session = await a_session(ts)
    ticket = await ts.send(AddMessage(session.id, user_message("x")))
    waiting = asyncio.create_task(_wait(ticket))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await ticket == Applied(session.id, 2)


async def test_a_sent_command_is_queued(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    ticket = await client.send(CreateSession(CONFIG, id_in(2, 4)))
    assert await deployment.backlog(2) == 1
    with pytest.raises(CommandTimeout) as timeout:
        await ticket.result(AT_ONCE)
    assert timeout.value.command_id == ticket.command_id
    assert isinstance(timeout.value, Unavailable)


async def test_a_ticket_that_timed_out_is_answered_later(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    ticket = await client.send(CreateSession(CONFIG, "late"))
    with pytest.raises(CommandTimeout):
        await ticket.result(AT_ONCE)
    await client_of(deployment)
    await wait_until(lambda: "done=True" in repr(ticket))
    assert await ticket == Applied("late", 1)


async def test_a_creation_that_timed_out_is_sent_again_under_its_id(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    with pytest.raises(CommandTimeout) as timeout:
        await client.execute(CreateSession(CONFIG), timeout=AT_ONCE)
    other = await client_of(deployment)
    session = await other.execute(CreateSession(CONFIG), command_id=timeout.value.command_id)
    assert [info.id async for info in other.sessions.list()] == [session.id]


async def test_timeouts_and_overload_are_raised_by_dispatch_too(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    with pytest.raises(CommandTimeout):
        await client.dispatch(CreateSession(CONFIG), timeout=AT_ONCE)
    with pytest.raises(CommandTimeout):
        await client.execute(CreateSession(CONFIG), timeout=AT_ONCE)


async def test_queued_commands_outlive_their_client(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    tickets = await client.send_many([CreateSession(CONFIG, "s"), AddMessage("s", user_message("one"))])
    await client.aclose()
    for ticket in tickets:
        with pytest.raises(Unavailable):
            await ticket
    other = await client_of(deployment)
    await wait_until(lambda: _has_version(other, "s", 2))


async def _has_version(ts: Turnstream, session_id: str, version: int) -> bool:
    session = await ts.sessions.get(session_id)
    return session is not None and session.version == version


@pytest.mark.parametrize("overrides", [{"max_backlog": 3}])
async def test_overloaded(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    target = id_in(0, 4)
    for _ in range(3):
        await client.send(CreateSession(CONFIG, target))
    for refused in (client.send(DeleteSession(target)), client.execute(DeleteSession(target))):
        with pytest.raises(Overloaded) as overloaded:
            await refused
        assert (overloaded.value.backlog, overloaded.value.limit) == (3, 3)
    with pytest.raises(Overloaded):
        await client.dispatch(DeleteSession(target))
    assert await deployment.backlog(0) == 3
    await client.send(CreateSession(CONFIG, id_in(1, 4)))


@pytest.mark.parametrize("overrides", [{"max_backlog": 10}])
async def test_a_caller_waiting_for_room_gets_it_however_many_send_at_once(ts: Turnstream) -> None:
    session = await a_session(ts)
    texts = [str(number) for number in range(30)]
    sends = [ts.send(AddMessage(session.id, user_message(text)), when_full="wait") for text in texts]
    for ticket in await asyncio.gather(*sends):
        await ticket
    await ts.send_many([AddMessage(session.id, user_message(text)) for text in texts], when_full="wait")
    await ts.execute(AddMessage(session.id, user_message("last")))
    assert texts_of(await ts.sessions.messages(session.id)) == [*texts, *texts, "last"]


# ── results of appends, which need no read ───────────────────────────────────────────────────────────────────────────


async def test_a_result_is_the_stored_session_even_with_other_writers(ts: Turnstream, deployment: Deployment) -> None:
    """Of two clients each remembers what its last result showed; the other's changes must not be missing from it."""
    mine, others = ts, await client_of(deployment)
    session = await a_session(mine, "first")
    chosen = random.Random(7)
    for number in range(60):
        client = chosen.choice([mine, mine, others])
        message = replace(user_message(f"text {number}"), metadata={"list": [1, 2.0, None]})
        change: Command[Session] = chosen.choice(
            [
                AddMessage(session.id, message),
                AddMessages(session.id, (message, assistant_message("Yes"))),
                UpdateTokenMetrics(session.id, prompt_tokens=5),
                UpdateMessage(session.id, session.messages[0].id, updates=ChatMessagePatch(metadata={"n": number})),
            ]
        )
        result = await client.execute(change)
        session = await others.sessions.get(session.id) or session
        assert result == session
    await others.execute(DeleteSession(session.id))
    await others.execute(CreateSession(CONFIG, session.id))
    again = await mine.execute(AddMessage(session.id, user_message("another life")))
    assert texts_of(again.messages) == ["another life"]


async def test_an_append_after_an_append_reads_nothing(ts: Turnstream, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await a_session(ts, "first")

    async def fail(*_: object) -> None:
        raise AssertionError("the session was read")

    monkeypatch.setattr(ts._backend.reader, "messages", fail)
    session = await ts.execute(AddMessage(session.id, user_message("second")))
    session = await ts.execute(AddMessages(session.id, (user_message("third"),)))
    assert texts_of(session.messages) == ["first", "second", "third"]
    assert session.version == 4


async def test_a_result_is_unaffected_by_the_callers_later_changes(ts: Turnstream) -> None:
    session = await a_session(ts, "first")
    metadata: dict[str, Any] = {"step": 1}
    executing = asyncio.create_task(
        ts.execute(AddMessage(session.id, replace(user_message("second"), metadata=metadata)))
    )
    await asyncio.sleep(0)
    metadata["step"] = 2
    result = await executing
    assert result == await ts.sessions.get(session.id)
    assert result.messages[-1].metadata == {"step": 1}


# ── results that are gone ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("again", [False, True])
async def test_the_session_was_deleted_before_the_result_was_read(ts: Turnstream, again: bool) -> None:
    """A resend is answered by the recorded outcome, as late as one likes."""
    session = await a_session(ts)
    change = AddMessage(session.id, user_message("one"))
    assert (await ts.execute(change, command_id="mine")).version == 2
    await ts.execute(DeleteSession(session.id))
    if again:
        await ts.execute(CreateSession(CONFIG, session.id))
    for call in (ts.execute, ts.dispatch):
        with pytest.raises(SessionGone, match="applied") as gone:
            await call(change, command_id="mine")
        assert (gone.value.session_id, gone.value.version, gone.value.command_id) == (session.id, 2, "mine")


# ── opening and closing ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["in_memory", "embedded"])
async def test_a_client_with_its_own_server_and_worker(settings: Settings, way: str) -> None:
    open_it = getattr(Turnstream, way)
    async with open_it(settings=settings) as ts:
        session = await a_session(ts, "one")
        assert await ts.sessions.get(session.id) == session
    ts = await open_it(settings=settings)
    assert await ts.sessions.count() == 0
    await a_session(ts)
    await ts.aclose()


async def test_a_client_of_workers_elsewhere(real: EmbeddedDeployment) -> None:
    await worker_of(real)
    url = real.settings.redis_url.get_secret_value()
    async with Turnstream.connect(url, settings=real.settings) as ts:
        session = await a_session(ts, "one")
    ts = await Turnstream.connect(settings=real.settings)
    assert await ts.sessions.get(session.id) == session
    await ts.aclose()
    await ts.aclose()


async def test_a_client_that_was_never_used_closes(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    await client.aclose()


CALLS: dict[str, Callable[[Turnstream], Awaitable[object]]] = {
    "send": lambda ts: ts.send(CreateSession(CONFIG)),
    "send_many": lambda ts: ts.send_many([CreateSession(CONFIG)]),
    "execute": lambda ts: ts.execute(CreateSession(CONFIG)),
    "dispatch": lambda ts: ts.dispatch(CreateSession(CONFIG)),
    "query": lambda ts: ts.execute(GetSession("s")),
    "list query": lambda ts: ts.execute(ListSessions()),
    "subscribe": lambda ts: anext(ts.subscribe()),
    "consumer": lambda ts: ts.consumer("billing").run(_ignore),
    "position": lambda ts: ts.position(),
    "verify": lambda ts: ts.verify("s"),
    "sessions.get": lambda ts: ts.sessions.get("s"),
    "sessions.messages": lambda ts: ts.sessions.messages("s"),
    "sessions.page": lambda ts: ts.sessions.page(),
    "sessions.list": lambda ts: anext(ts.sessions.list()),
    "sessions.exists": lambda ts: ts.sessions.exists("s"),
    "sessions.count": lambda ts: ts.sessions.count(),
    "parked.list": lambda ts: anext(ts.admin.parked.list()),
    "parked.show": lambda ts: anext(ts.admin.parked.show("s")),
    "parked.redrive": lambda ts: ts.admin.parked.redrive("s"),
    "parked.discard": lambda ts: ts.admin.parked.discard("s"),
    "malformed.list": lambda ts: anext(ts.admin.malformed.list()),
    "malformed.show": lambda ts: ts.admin.malformed.show("0:1-1"),
    "malformed.redrive": lambda ts: ts.admin.malformed.redrive("0:1-1"),
    "malformed.discard": lambda ts: ts.admin.malformed.discard("0:1-1"),
    "consumers.list": lambda ts: anext(ts.admin.consumers.list()),
    "consumers.lag": lambda ts: anext(ts.admin.consumers.lag("billing")),
    "consumers.reset": lambda ts: ts.admin.consumers.reset("billing", "now"),
    "consumers.parked": lambda ts: anext(ts.admin.consumers.parked("billing")),
    "consumers.redrive": lambda ts: ts.admin.consumers.redrive("billing", "s"),
    "consumers.discard": lambda ts: ts.admin.consumers.discard("billing", "s"),
    "consumers.forget": lambda ts: ts.admin.consumers.forget("billing"),
    "workers.list": lambda ts: anext(ts.admin.workers.list()),
}


async def _ignore(_: object) -> None:
    """Handle an event."""


@pytest.mark.parametrize("used", [False, True])
async def test_a_closed_client_is_closed(deployment: Deployment, ts: Turnstream, used: bool) -> None:
    client = await client_of(deployment, worker=False)
    if used:
        await a_session(client)
    await client.aclose()
    tasks = asyncio.all_tasks()
    for call in CALLS.values():
        with pytest.raises(Unavailable, match="closed: open a new one"):
            await call(client)
    assert asyncio.all_tasks() <= tasks
    assert await ts.sessions.count() == used


# ── many at once ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_send_many_keeps_the_order_of_each_session(ts: Turnstream) -> None:
    names = [f"s{number}" for number in range(10)]
    commands: list[Command[Any]] = [CreateSession(CONFIG, name) for name in names]
    commands += [AddMessage(name, user_message(str(turn))) for turn in range(60) for name in names]
    tickets = await ts.send_many(commands)
    assert [ticket.session_id for ticket in tickets] == [c.session_id for c in commands]  # type: ignore[attr-defined]
    applied = [await ticket for ticket in tickets]
    assert [a.version for a in applied] == [1] * 10 + [turn + 2 for turn in range(60) for _ in names]
    for name in names:
        assert texts_of(await ts.sessions.messages(name)) == [str(turn) for turn in range(60)]


async def test_send_many_sends_all_or_none(deployment: Deployment, ts: Turnstream) -> None:
    with pytest.raises(Rejected):
        await ts.send_many([CreateSession(CONFIG, "s"), UpdateTokenMetrics("s", prompt_tokens=-1)])
    assert await ts.send_many([]) == []
    assert await ts.sessions.count() == 0


async def test_concurrent_sends_keep_their_order(ts: Turnstream) -> None:
    session = await a_session(ts)
    sends = [ts.send(AddMessage(session.id, user_message(str(number)))) for number in range(100)]
    for ticket in await asyncio.gather(*sends):
        await ticket
    assert texts_of(await ts.sessions.messages(session.id)) == [str(number) for number in range(100)]


async def test_many_clients_write_many_sessions(deployment: Deployment, ts: Turnstream) -> None:
    clients = [ts, await client_of(deployment, worker=False), await client_of(deployment, worker=False)]

    async def chat(client: Turnstream, name: str) -> list[str]:
        session = await a_session(client, session_id=name)
        for turn in range(5):
            session = await client.execute(AddMessage(name, user_message(f"{name}-{turn}")))
        return texts_of(session.messages)

    names = [f"s{number}" for number in range(30)]
    written = await asyncio.gather(*(chat(clients[n % 3], name) for n, name in enumerate(names)))
    assert written == [[f"{name}-{turn}" for turn in range(5)] for name in names]


@not_on_fakeredis
async def test_a_long_session_is_read_however_often_it_changes_during_the_read(
    deployment: Deployment, ts: Turnstream
) -> None:
    session = await a_session(ts)
    await ts.execute(AddMessages(session.id, messages_of(map(str, range(3_000)))))
    other = await client_of(deployment, worker=False)
    written: list[Ticket] = []
    writing = asyncio.create_task(_write(other, session.id, written))
    for _ in range(5):
        before = len(written)
        after = await ts.execute(AddMessage(session.id, user_message("mine")))
        assert len(after.messages) == 3_000 + after.version - 2
        await wait_until(lambda before=before: len(written) > before)  # type: ignore[misc]
    writing.cancel()
    await asyncio.wait([writing])


async def _write(ts: Turnstream, session_id: str, written: list[Ticket]) -> None:
    """Add messages until cancelled, as fast as they are queued."""
    while True:
        written.append(await ts.send(AddMessage(session_id, user_message("theirs")), when_full="wait"))


async def test_queries_see_awaited_commands(deployment: Deployment, ts: Turnstream) -> None:
    other = await client_of(deployment, worker=False)
    session = await a_session(ts)
    for version in range(2, 20):
        await (await ts.send(UpdateTokenMetrics(session.id, prompt_tokens=1)))
        seen = await other.execute(GetSession(session.id))
        assert seen is not None
        assert (seen.version, seen.metrics.prompt_tokens) == (version, version - 1)


# ── callers cannot change stored values ──────────────────────────────────────────────────────────────────────────────


def tags_of(session: Session) -> list[str]:
    tags: list[str] = (session.metadata or {})["tags"]
    return tags


async def test_callers_cannot_change_stored_values(ts: Turnstream) -> None:
    metadata = {"tags": ["a"]}
    message = user_message("one")
    created = await ts.execute(CreateSession(CONFIG, metadata=metadata))
    added = await ts.execute(
        AddMessage(created.id, tool_message("t", [ToolCallContent(tool_call_id="t", name="n", args={"a": [1]})]))
    )
    metadata["tags"].append("b")
    for session in (created, added, await ts.execute(GetSession(created.id))):
        assert session is not None
        assert session.metadata == {"tags": ["a"]}
        tags_of(session).append("c")
        for part in (part for each in session.messages for part in each.content):
            assert isinstance(part, ToolCallContent)
            part.args["a"].append(2)
    # A later change starts from what is stored, not from what a caller holds.
    after = await ts.execute(AddMessage(created.id, message))
    assert after.metadata == {"tags": ["a"]}
    (first,) = after.messages[0].content
    assert isinstance(first, ToolCallContent)
    assert first.args == {"a": [1]}
