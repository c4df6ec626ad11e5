"""The results of `execute`, `send` and the repository's methods, as both type checkers infer them. Nothing is run."""

from collections.abc import AsyncIterator
from typing import assert_type

from turnstream import (
    AddMessage,
    AddMessages,
    Applied,
    ChatMessage,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    Session,
    SessionConfig,
    SessionInfo,
    SessionPage,
    Ticket,
    Turnstream,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.commands import ChatMessagePatch, CommandResult, GetSession, ListSessions, RemovedMessage, SessionPatch

CONFIG = SessionConfig("openai", "gpt-4")


async def commands_that_give_the_session(ts: Turnstream) -> None:
    assert_type(await ts.execute(CreateSession(CONFIG)), Session)
    assert_type(await ts.execute(UpdateSession("s", SessionPatch(is_active=False))), Session)
    assert_type(await ts.execute(AddMessage("s", user_message("Hello"))), Session)
    assert_type(await ts.execute(AddMessages("s", (user_message("Hello"),))), Session)
    assert_type(await ts.execute(UpdateMessage("s", "m", updates=ChatMessagePatch())), Session)
    assert_type(await ts.execute(UpdateTokenMetrics("s", prompt_tokens=50, completion_tokens=80)), Session)


async def commands_that_give_something_else(ts: Turnstream) -> None:
    assert_type(await ts.execute(GetSession("s")), Session | None)
    assert_type(await ts.execute(DeleteSession("s")), bool)
    assert_type(await ts.execute(RemoveMessages("s", last=1)), tuple[ChatMessage | RemovedMessage, ...])
    assert_type(await ts.execute(ListSessions()), SessionPage)


async def a_command_of_which_only_some_kinds_are_known(ts: Turnstream, command: DeleteSession | GetSession) -> None:
    if isinstance(command, GetSession):
        assert_type(await ts.execute(command), Session | None)
    else:
        assert_type(await ts.execute(command), bool)


async def tickets(ts: Turnstream) -> None:
    ticket = await ts.send(AddMessage("s", user_message("Hello")))
    assert_type(ticket, Ticket)
    assert_type(await ticket, Applied)
    assert_type((await ticket).version, int)
    assert_type(await ts.send_many([AddMessage("s", user_message("Hello")), DeleteSession("s")]), list[Ticket])


async def results_of_the_spec(ts: Turnstream) -> None:
    result = await ts.dispatch(CreateSession(CONFIG))
    assert_type(result, CommandResult)
    assert_type(result.success, bool)
    assert_type(result.error, str | None)


async def the_repository(ts: Turnstream) -> None:
    assert_type(await ts.sessions.get("s"), Session | None)
    assert_type(await ts.execute(CreateSession(CONFIG)), Session)
    assert_type(await ts.execute(UpdateSession("s", SessionPatch())), Session)
    assert_type(await ts.execute(DeleteSession("s")), bool)
    assert_type(await ts.sessions.messages("s", last=20), tuple[ChatMessage, ...])
    assert_type(await ts.execute(AddMessage("s", user_message("Hello"))), Session)
    assert_type(await ts.execute(UpdateMessage("s", "m", updates=ChatMessagePatch())), Session)
    assert_type(await ts.sessions.page(limit=5), SessionPage)
    assert_type(ts.sessions.list(), AsyncIterator[SessionInfo])
    assert_type(await ts.sessions.exists("s"), bool)
    assert_type(await ts.sessions.count(), int)
