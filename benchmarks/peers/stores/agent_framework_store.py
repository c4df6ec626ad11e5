"""Microsoft Agent Framework: `RedisHistoryProvider`, the part that needs no modules of the server."""

from collections.abc import Sequence
from typing import ClassVar
from uuid import uuid4

from agent_framework import Message
from agent_framework_redis import RedisHistoryProvider

from benchmarks.peers.stores.contract import Store


class AgentFrameworkStore(Store[str, Message]):
    """A list of messages; an append reads all of it, to see what is new."""

    notes: ClassVar[tuple[str, ...]] = ("it reads all messages only; the last 20 are cut from them here",)
    cuts: ClassVar[bool] = True

    async def open(self, url: str) -> None:
        """Connect."""
        self._history = RedisHistoryProvider(redis_url=url, application_id="bench")

    async def new(self, texts: Sequence[str]) -> str:
        """Save all in one call."""
        session = str(uuid4())
        await self._history.save_messages(session, [Message("user", [text]) for text in texts])
        return session

    async def append(self, session: str, text: str) -> None:
        """Save one message."""
        await self._history.save_messages(session, [Message("user", [text])])

    async def last(self, session: str, count: int) -> list[Message]:
        """Read all messages and cut."""
        return (await self._history.get_messages(session))[-count:]

    async def all(self, session: str) -> list[Message]:
        """Read all messages."""
        return await self._history.get_messages(session)

    def texts(self, messages: Sequence[Message]) -> list[str]:
        """Return the text of each message."""
        return [message.text for message in messages]

    async def close(self) -> None:
        """Close the connections."""
        await self._history.aclose()
