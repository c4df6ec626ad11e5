"""A command that is sent again is applied once, and answered again (design §4)."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, messages_of, texts_of
from tests.contract.deployments import Deployment, client_of
from tests.contract.hearing import take
from tests.waiting import wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    SessionAlreadyExists,
    SessionNotFound,
    Ticket,
    Turnstream,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
    VersionConflict,
    user_message,
)
from turnstream.commands import ChatMessagePatch, Command, SessionPatch
from turnstream.errors import DuplicateMismatch, MessageNotFound, SessionGone
from turnstream.events import SessionCreated

AGAIN = "the-same-id"


async def happened(deployment: Deployment) -> int:
    return sum([len(await deployment.events(partition)) for partition in range(deployment.settings.partitions)])


def changes(session_id: str, message_id: str) -> list[Command[Any]]:
    return [
        CreateSession(CONFIG, "another"),
        UpdateSession(session_id, SessionPatch(metadata={"a": 1})),
        AddMessage(session_id, user_message("new")),
        AddMessages(session_id, messages_of("ab")),
        UpdateMessage(session_id, message_id, updates=ChatMessagePatch(metadata={"a": 1})),
        RemoveMessages(session_id, last=1),
        RemoveMessages(session_id, message_ids=(message_id,)),
        UpdateTokenMetrics(session_id, prompt_tokens=10),
        DeleteSession(session_id),
    ]


@pytest.mark.parametrize("which", range(9), ids=[change.type for change in changes("", "")])
async def test_every_command_is_applied_once(deployment: Deployment, ts: Turnstream, which: int) -> None:
    session = await a_session(ts, "one", "two")
    command = changes(session.id, session.messages[0].id)[which]
    first = await (await ts.send(command, command_id=AGAIN))
    events = await happened(deployment)
    for _ in range(3):
        assert await (await ts.send(command, command_id=AGAIN)) == first
    assert await happened(deployment) == events


async def test_the_recorded_result_is_given_again(ts: Turnstream) -> None:
    session = await a_session(ts, "one", "two")
    removal = RemoveMessages(session.id, last=1)
    deletion = DeleteSession(session.id)
    for _ in range(2):
        assert await ts.execute(removal, command_id="remove") == session.messages[1:]
    for _ in range(2):
        assert await ts.execute(deletion, command_id="delete") is True
    assert await ts.execute(deletion) is False


async def test_a_rejection_remains_even_if_the_command_would_fit_now(ts: Turnstream) -> None:
    message = user_message("one")
    for _ in range(2):
        with pytest.raises(SessionNotFound):
            await ts.execute(AddMessage("s", message), command_id=AGAIN)
        await ts.dispatch(CreateSession(CONFIG, "s"))
    assert await ts.sessions.messages("s") == ()
    await ts.execute(AddMessage("s", message), command_id="a new command")


async def test_a_resend_between_other_commands(ts: Turnstream) -> None:
    session = await a_session(ts)
    command = AddMessage(session.id, user_message("one"))
    versions: list[int] = []
    for number in range(4):
        versions.append((await (await ts.send(command, command_id=AGAIN))).version)
        await ts.execute(AddMessage(session.id, user_message(str(number))))
    assert versions == [2, 2, 2, 2]
    assert texts_of(await ts.sessions.messages(session.id)) == ["one", "0", "1", "2", "3"]


async def test_resends_in_one_batch(deployment: Deployment) -> None:
    """Without a worker they wait in the stream together; the worker finds them all at once."""
    producers = [await client_of(deployment, worker=False) for _ in range(3)]
    await producers[0].send(CreateSession(CONFIG, "s"))
    command = AddMessage("s", user_message("one"))
    tickets = [await producer.send(command, command_id=AGAIN) for producer in producers for _ in range(2)]
    ts = await client_of(deployment)
    assert [(await ticket).version for ticket in tickets] == [2] * 6
    assert texts_of(await ts.sessions.messages("s")) == ["one"]


async def test_a_resend_to_the_next_owner(deployment: Deployment) -> None:
    first = await client_of(deployment)
    session = await a_session(first, "one")
    command = RemoveMessages(session.id, last=1)
    await first.execute(command, command_id=AGAIN)
    await first.aclose()
    second = await client_of(deployment)
    assert await second.execute(command, command_id=AGAIN) == session.messages


async def test_another_payload_under_the_same_id(deployment: Deployment, ts: Turnstream) -> None:
    session = await a_session(ts)
    first = AddMessage(session.id, user_message("one"))
    await ts.execute(first, command_id=AGAIN)
    events = await happened(deployment)
    others = (
        AddMessage(session.id, user_message("two")),
        AddMessage(session.id, first.message, expected_version=1),
        DeleteSession(session.id),
    )
    for other in others:
        with pytest.raises(DuplicateMismatch) as mismatch:
            await ts.execute(other, command_id=AGAIN)
        assert mismatch.value.command_id == AGAIN
        assert (await (await ts.send(first, command_id=AGAIN))).version == 2
    assert await happened(deployment) == events


async def test_the_type_belongs_to_the_payload(ts: Turnstream) -> None:
    """A deletion and a query of an empty name have the same JSON."""
    session = await a_session(ts)
    empty = UpdateTokenMetrics(session.id)
    deletion = DeleteSession(session.id)
    await ts.execute(empty, command_id=AGAIN)
    with pytest.raises(DuplicateMismatch):
        await ts.execute(deletion, command_id=AGAIN)
    assert await ts.sessions.exists(session.id)


async def test_different_payloads_under_one_id_at_the_same_time(ts: Turnstream) -> None:
    session = await a_session(ts)
    commands = [AddMessage(session.id, user_message(text)) for text in "abc"]
    sends = (ts.send(command, command_id=AGAIN) for command in commands)
    first, *others = await asyncio.gather(*sends, return_exceptions=True)
    assert isinstance(first, Ticket)
    assert (await first).version == 2
    assert [type(other) for other in others] == [DuplicateMismatch, DuplicateMismatch]
    assert texts_of(await ts.sessions.messages(session.id)) == ["a"]


async def test_the_same_command_at_the_same_time(ts: Turnstream) -> None:
    session = await a_session(ts)
    command = AddMessage(session.id, user_message("one"))
    results = await asyncio.gather(*(ts.execute(command, command_id=AGAIN) for _ in range(20)))
    assert {result.version for result in results} == {2}
    assert len(await ts.sessions.messages(session.id)) == 1


async def test_an_id_may_be_used_again_for_another_session(ts: Turnstream) -> None:
    """At most one effect per session and command id; ids of commands are the producer's own."""
    first, second = [await a_session(ts, session_id=name) for name in ("a", "a" * 50)]
    await ts.execute(AddMessage(first.id, user_message("one")), command_id="mine-1")
    await ts.execute(AddMessage(second.id, user_message("one")), command_id="mine-2")
    assert len(await ts.sessions.messages(first.id)) == len(await ts.sessions.messages(second.id)) == 1


async def test_a_session_without_an_id_is_created_once(ts: Turnstream) -> None:
    """Ids that are made up derive from the command's id, so that a resend means the same session (design §1)."""
    command = CreateSession(CONFIG)
    first = await ts.execute(command, command_id=AGAIN)
    for _ in range(4):
        assert await ts.execute(command, command_id=AGAIN) == first
    assert await ts.sessions.count() == 1


async def test_a_repeated_creation_under_a_new_id_is_refused(ts: Turnstream) -> None:
    command = CreateSession(CONFIG, "s")
    await ts.execute(command, command_id=AGAIN)
    await ts.execute(command, command_id=AGAIN)
    with pytest.raises(SessionAlreadyExists):
        await ts.execute(command)


async def test_a_message_that_was_removed_is_not_added_again(ts: Turnstream) -> None:
    session = await a_session(ts)
    message = user_message("one")
    addition = AddMessage(session.id, message)
    await ts.execute(addition, command_id=AGAIN)
    await ts.execute(RemoveMessages(session.id, message_ids=(message.id,)))
    await ts.execute(addition, command_id=AGAIN)
    assert await ts.sessions.messages(session.id) == ()
    with pytest.raises(MessageNotFound):
        await ts.execute(RemoveMessages(session.id, message_ids=(message.id,)))
    # As a new command it is a new message.
    assert (await ts.execute(addition)).messages == (message,)


async def test_a_rejected_expectation_is_recorded(ts: Turnstream) -> None:
    session = await a_session(ts)
    command = AddMessage(session.id, user_message("one"), expected_version=2)
    for _ in range(2):
        with pytest.raises(VersionConflict) as conflict:
            await ts.execute(command, command_id=AGAIN)
        assert conflict.value.actual_version == 1
        await ts.execute(UpdateTokenMetrics(session.id))


@pytest.mark.parametrize("overrides", [{"deduplication_window": 0.05}])
async def test_after_the_window_a_command_is_new(ts: Turnstream) -> None:
    session = await a_session(ts)
    command = UpdateTokenMetrics(session.id, prompt_tokens=1)
    await ts.execute(command, command_id=AGAIN)

    async def applied_again() -> bool:
        return (await ts.execute(command, command_id=AGAIN)).metrics.prompt_tokens == 2

    await wait_until(applied_again)


@pytest.mark.parametrize("overrides", [{"deduplication_window": 0.05}])
async def test_after_the_window_the_same_id_makes_another_session(ts: Turnstream) -> None:
    create = CreateSession(CONFIG, "s")

    async def created_again() -> bool:
        with suppress(SessionGone):
            await ts.execute(create, command_id=AGAIN)
            return True
        return False

    async with ts.subscribe(SessionCreated) as events:
        await ts.execute(create, command_id=AGAIN)
        await ts.execute(DeleteSession("s"))
        await wait_until(created_again)
        first, second = await take(events, 2)
    assert first.incarnation != second.incarnation
