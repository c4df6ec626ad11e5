"""OpenAI Agents SDK: `RedisSession` on one client that the application shares."""

from collections.abc import Sequence
from uuid import uuid4

from agents.extensions.memory import RedisSession
from agents.items import TResponseInputItem
from redis.asyncio import Redis

from benchmarks.peers.stores.contract import Store


class OpenAIAgentsStore(Store[RedisSession, TResponseInputItem]):
    """A list of messages and a hash; an append is a WATCH, two TYPEs and a MULTI."""

    async def open(self, url: str) -> None:
        """Connect."""
        self._redis = Redis.from_url(url)

    async def new(self, texts: Sequence[str]) -> RedisSession:
        """Add all in one call."""
        session = RedisSession(str(uuid4()), redis_client=self._redis)
        await session.add_items([_message(text) for text in texts])
        return session

    async def join(self, session: RedisSession) -> RedisSession:
        """Make another object for the session, as another request would: one object lets one append in at a time."""
        return RedisSession(session.session_id, redis_client=self._redis)

    async def append(self, session: RedisSession, text: str) -> None:
        """Add one item."""
        await session.add_items([_message(text)])

    async def last(self, session: RedisSession, count: int) -> list[TResponseInputItem]:
        """Read the end of the list."""
        return await session.get_items(limit=count)

    async def all(self, session: RedisSession) -> list[TResponseInputItem]:
        """Read the list."""
        return await session.get_items()

    def texts(self, messages: Sequence[TResponseInputItem]) -> list[str]:
        """Return the content of each message."""
        return [message["content"] for message in messages]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _message(text: str) -> TResponseInputItem:
    return {"role": "user", "content": text}
