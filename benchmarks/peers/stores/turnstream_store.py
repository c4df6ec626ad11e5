"""Turnstream: commands through one worker process, reads from the store."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import ClassVar

from benchmarks.peers.stores.contract import Store
from turnstream import (
    AddMessage,
    AddMessages,
    ChatMessage,
    CreateSession,
    SessionConfig,
    TextContent,
    Turnstream,
    user_message,
)

CONFIG = SessionConfig("openai", "gpt-4o")
PREFILL = 1_000
STOP_TIMEOUT = 30


class TurnstreamStore(Store[str, ChatMessage]):
    """`execute`: returns when the message is applied, with the updated session, all its messages included."""

    notes: ClassVar[tuple[str, ...]] = ("an append returns the whole updated session",)

    async def open(self, url: str) -> None:
        """Connect, and start a worker."""
        self.ts = await Turnstream.connect(url)
        command = [sys.executable, "-m", "turnstream_worker", "--log-level", "error"]
        environment = {**os.environ, "TURNSTREAM_REDIS_URL": url}
        self._worker = subprocess.Popen(command, env=environment)  # noqa: ASYNC220, S603 - before anything is measured

    async def new(self, texts: Sequence[str]) -> str:
        """Add many messages a command."""
        session = await self.ts.execute(CreateSession(CONFIG))
        for start in range(0, len(texts), PREFILL):
            some = tuple(user_message(text) for text in texts[start : start + PREFILL])
            await (await self.ts.send(AddMessages(session.id, some)))
        return session.id

    async def append(self, session: str, text: str) -> object:
        """Add a message, and get the session."""
        return await self.ts.execute(AddMessage(session, user_message(text)))

    async def last(self, session: str, count: int) -> tuple[ChatMessage, ...]:
        """Read the end of the session."""
        return await self.ts.sessions.messages(session, last=count)

    async def all(self, session: str) -> tuple[ChatMessage, ...]:
        """Read all messages."""
        return await self.ts.sessions.messages(session)

    def texts(self, messages: Sequence[ChatMessage]) -> list[str]:
        """Return the text of each message."""
        return [part.text for message in messages for part in message.content if isinstance(part, TextContent)]

    async def close(self) -> None:
        """Disconnect, and end the worker."""
        await self.ts.aclose()
        self._worker.terminate()
        self._worker.wait(STOP_TIMEOUT)


class TurnstreamTicketStore(TurnstreamStore):
    """`send` and its ticket: returns when the message is applied, with its version; reads are the same."""

    notes: ClassVar[tuple[str, ...]] = ("an append returns the session's new version",)

    async def append(self, session: str, text: str) -> object:
        """Add a message, and wait until it is applied."""
        return await (await self.ts.send(AddMessage(session, user_message(text))))
