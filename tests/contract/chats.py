"""Sessions and messages for the tests of the client."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tests import builders
from tests.waiting import SOON

from turnstream import (
    AddMessages,
    ChatMessage,
    CreateSession,
    Session,
    TextContent,
    Turnstream,
    Unavailable,
    user_message,
)
from turnstream.commands import Command
from turnstream.domain.models import partition_of
from turnstream.messages import new_id

CONFIG = builders.CONFIG


async def a_session(ts: Turnstream, *texts: str, session_id: str | None = None) -> Session:
    """Create a session that holds messages of these texts."""
    session = await ts.execute(CreateSession(CONFIG, session_id))
    if not texts:
        return session
    return await ts.execute(AddMessages(session.id, messages_of(texts)))


def messages_of(texts: Iterable[str]) -> tuple[ChatMessage, ...]:
    return tuple(user_message(text) for text in texts)


def texts_of(messages: Iterable[ChatMessage]) -> list[str]:
    return [part.text for message in messages for part in message.content if isinstance(part, TextContent)]


def id_in(partition: int, partitions: int) -> str:
    """Return a new session id of a partition."""
    return next(i for i in iter(new_id, "") if partition_of(i, partitions) == partition)


async def persistently(ts: Turnstream, change: Command[Any]) -> None:
    """Send a command until it is answered, always under the same id, as the documentation asks producers to."""
    command_id = new_id()
    async with asyncio.timeout(2 * SOON):
        while True:
            with suppress(Unavailable):
                await ts.execute(change, command_id=command_id, timeout=0.3)
                return
            await asyncio.sleep(0.005)
