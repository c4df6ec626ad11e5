"""LlamaIndex: `RedisChatStore`, by its asynchronous methods."""

from collections.abc import Sequence
from typing import ClassVar
from uuid import uuid4

from llama_index.core.llms import ChatMessage
from llama_index.storage.chat_store.redis import RedisChatStore
from redis.asyncio import Redis

from benchmarks.peers.stores.contract import Store


class LlamaIndexStore(Store[str, ChatMessage]):
    """A list of messages; an append is one RPUSH."""

    notes: ClassVar[tuple[str, ...]] = ("it reads all messages only; the last 20 are cut from them here",)
    cuts: ClassVar[bool] = True

    async def open(self, url: str) -> None:
        """Connect; the client is ours, because the store has no method that closes its own."""
        self._redis = Redis.from_url(url)
        self._store = RedisChatStore(redis_url=url, aredis_client=self._redis)

    async def new(self, texts: Sequence[str]) -> str:
        """Set all messages, which adds them one by one."""
        session = str(uuid4())
        await self._store.aset_messages(session, [_message(text) for text in texts])
        return session

    async def append(self, session: str, text: str) -> None:
        """Add one message."""
        await self._store.async_add_message(session, _message(text))

    async def last(self, session: str, count: int) -> list[ChatMessage]:
        """Read all messages and cut."""
        return (await self._store.aget_messages(session))[-count:]

    async def all(self, session: str) -> list[ChatMessage]:
        """Read all messages."""
        return await self._store.aget_messages(session)

    def texts(self, messages: Sequence[ChatMessage]) -> list[str]:
        """Return the content of each message."""
        return [message.content for message in messages]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _message(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)
