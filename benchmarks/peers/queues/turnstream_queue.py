"""Turnstream in the same phases: its own client and worker, on sessions that were created before."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec
import redis

from benchmarks.peers.queues import work
from benchmarks.peers.queues.contender import Heard, Stored
from benchmarks.peers.queues.lanes import in_chunks
from turnstream import AddMessage, ChatMessage, CreateSession, SessionConfig, Turnstream, user_message
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.domain.models import partition_of
from turnstream.events import MessageAdded
from turnstream.settings import load_settings

CONFIG = SessionConfig("openai", "gpt-4o")
TIMEOUT = 600.0
"""Seconds for which a ticket waits: commands are queued while no worker runs."""


class TurnstreamContender:
    """Commands on its streams, one worker process."""

    def __init__(self) -> None:
        """Use the default settings, but for the server."""
        self._settings = load_settings()
        self._keys = Keys(self._settings.namespace, self._settings.partitions).partitions

    def worker_command(self, url: str) -> list[str]:
        """Return the command that runs one worker process."""
        return [sys.executable, "-m", "turnstream_worker", "--redis-url", url, "--log-level", "error"]

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Hold a client open."""
        async with Turnstream.connect(work.url()) as self._ts:
            yield

    async def prepare(self, sessions: Sequence[str]) -> None:
        """Create the sessions."""
        for ticket in await self._ts.send_many(CreateSession(CONFIG, session) for session in sessions):
            await ticket

    def loads(self, jobs: Sequence[work.Job]) -> list[AddMessage]:
        """Return a command for each job: a message of the same text and id."""
        return [AddMessage(job.session, _message(job)) for job in jobs]

    async def enqueue(self, loads: Sequence[AddMessage]) -> None:
        """Queue one command, or many at a time."""
        if len(loads) == 1:
            await self._ts.send(loads[0], timeout=TIMEOUT)
            return
        for chunk in in_chunks(loads):
            await self._ts.send_many(chunk, timeout=TIMEOUT)

    def counts(self, store: redis.Redis, sessions: Sequence[str]) -> list[int]:
        """Read the counts of the headers."""
        with store.pipeline(transaction=False) as pipe:
            for session in sessions:
                pipe.hget(self._of(session).session(session), "messageCount")
            return [int(count or 0) for count in pipe.execute()]

    def stored(self, store: redis.Redis, session: str) -> Stored:
        """Read the header's count, the order and the messages."""
        keys = self._of(session)
        with store.pipeline() as pipe:
            pipe.hget(keys.session(session), "messageCount")
            pipe.zrange(keys.order(session), 0, -1)
            pipe.hlen(keys.messages(session))
            count, order, messages = pipe.execute()
        return Stored(int(count or 0), [message_id.decode() for message_id in order], messages)

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[Heard]:
        """Subscribe by its own subscription."""
        async with self._ts.subscribe(MessageAdded) as events:

            async def heard(job: work.Job, timeout: float) -> bool:
                try:
                    async with asyncio.timeout(timeout):
                        while not isinstance(event := await anext(events), MessageAdded) or not _is_of(event, job):
                            pass
                except TimeoutError:
                    return False
                return True

            yield heard

    def _of(self, session: str) -> PartitionKeys:
        return self._keys[partition_of(session, self._settings.partitions)]


def _message(job: work.Job) -> ChatMessage:
    return msgspec.structs.replace(user_message(work.TEXT), id=job.message_id)


def _is_of(event: MessageAdded, job: work.Job) -> bool:
    return event.message.id == job.message_id
