"""The reference: the keys and the JSON that Turnstream stores, written by hand, without any logic."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

from redis.asyncio import Redis

from benchmarks.peers.stores.contract import Store

NOW = "2026-01-01T00:00:00.000000Z"
PREFILL = 1_000


class BareStore(Store[str, bytes]):
    """A hash of messages, a list of their ids and a hash for the header: one MULTI to append, two calls to read."""

    notes: ClassVar[tuple[str, ...]] = (
        "no events, no deduplication, no order of versions; what is read is not decoded",
    )

    async def open(self, url: str) -> None:
        """Connect."""
        # `Any`, because redis-py gives the commands of both of its clients one type.
        self._redis: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]

    async def new(self, texts: Sequence[str]) -> str:
        """Write in pipelines of many messages."""
        session = str(uuid4())
        for start in range(0, len(texts), PREFILL):
            async with self._redis.pipeline(transaction=False) as pipe:
                for text in texts[start : start + PREFILL]:
                    self._write(pipe, session, text)
                await pipe.execute()
        return session

    async def append(self, session: str, text: str) -> object:
        """Write in one transaction."""
        async with self._redis.pipeline(transaction=True) as pipe:
            self._write(pipe, session, text)
            return await pipe.execute()

    async def last(self, session: str, count: int) -> list[bytes]:
        """Read the ids, then the bodies."""
        return await self._read(session, -count)

    async def all(self, session: str) -> list[bytes]:
        """Read the ids, then the bodies."""
        return await self._read(session, 0)

    def texts(self, messages: Sequence[bytes]) -> list[str]:
        """Decode the JSON."""
        return [json.loads(message)["content"][0]["text"] for message in messages]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _read(self, session: str, start: int) -> list[bytes]:
        ids: list[bytes] = await self._redis.lrange(f"order:{session}", start, -1)
        bodies: list[bytes] = await self._redis.hmget(f"messages:{session}", ids)
        return bodies

    @staticmethod
    def _write(pipe: Any, session: str, text: str) -> None:  # noqa: ANN401 - pipelines of redis-py are not generic
        message_id = str(uuid4())
        body = {"id": message_id, "role": "user", "content": [{"type": "text", "text": text}], "createdAt": NOW}
        pipe.hset(f"messages:{session}", message_id, json.dumps(body, separators=(",", ":")))
        pipe.rpush(f"order:{session}", message_id)
        pipe.hset(f"session:{session}", "updatedAt", NOW)
