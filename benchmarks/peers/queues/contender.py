"""The interface between the phases and a contender's file."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import redis

from benchmarks.peers.queues import work

Heard = Callable[[work.Job, float], Awaitable[bool]]
"""Waits for the event of a job, for so many seconds; False if it did not come."""


class Stored(NamedTuple):
    """The server's data of a session: its header's count, its message ids in order, the number of messages."""

    counted: int
    order: list[str]
    messages: int


class Contender(Protocol):
    """A way to have the work done."""

    def worker_command(self, url: str) -> list[str]:
        """Return the command that runs one worker process."""
        ...

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Hold the producer's side open."""
        ...

    async def prepare(self, sessions: Sequence[str]) -> None:
        """Make what must be there before messages come; a worker is running."""
        ...

    def loads(self, jobs: Sequence[work.Job]) -> Sequence[Any]:
        """Return what is given to `enqueue`; not measured, as the text of the messages is not."""
        ...

    async def enqueue(self, loads: Sequence[Any]) -> None:
        """Queue jobs; those of a session in their order."""
        ...

    def counts(self, store: redis.Redis, sessions: Sequence[str]) -> list[int]:
        """Return how many messages each session says that it has."""
        ...

    def stored(self, store: redis.Redis, session: str) -> Stored:
        """Return what the server holds of a session."""
        ...

    def listening(self) -> AbstractAsyncContextManager[Heard]:
        """Subscribe to the events."""
        ...


class Peer:
    """A framework that runs the work of `work.py`, by the file that has its task."""

    def __init__(self, module: ModuleType) -> None:
        """Answer for the file."""
        self._module = module

    def worker_command(self, url: str) -> list[str]:
        """Return the framework's own command."""
        return list(self._module.worker_command(url))

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Hold open what the file needs; those of sync frameworks need nothing."""
        opened: Callable[[], AbstractAsyncContextManager[None]] = getattr(self._module, "opened", nullcontext)
        return opened()

    async def prepare(self, sessions: Sequence[str]) -> None:
        """Do nothing: a session begins with its first message."""

    def loads(self, jobs: Sequence[work.Job]) -> Sequence[work.Job]:
        """Return the jobs as they are."""
        return jobs

    async def enqueue(self, loads: Sequence[work.Job]) -> None:
        """Queue jobs as the file does."""
        queued = self._module.enqueue(loads)
        if inspect.isawaitable(queued):
            await queued

    def counts(self, store: redis.Redis, sessions: Sequence[str]) -> list[int]:
        """Read the counts that the task kept."""
        with store.pipeline(transaction=False) as pipe:
            for session in sessions:
                pipe.hget(work.session_key(session), "count")
            return [int(count or 0) for count in pipe.execute()]

    def stored(self, store: redis.Redis, session: str) -> Stored:
        """Read what the task wrote."""
        with store.pipeline() as pipe:
            pipe.hget(work.session_key(session), "count")
            pipe.lrange(work.order_key(session), 0, -1)
            pipe.hlen(work.messages_key(session))
            count, order, messages = pipe.execute()
        return Stored(int(count or 0), [message_id.decode() for message_id in order], messages)

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[Heard]:
        """Subscribe by a client that blocks: it is the quickest one, and there is no other work."""
        with work.client() as client, client.pubsub(ignore_subscribe_messages=True) as events:
            events.subscribe(work.EVENTS)
            events.get_message(timeout=1)

            async def heard(job: work.Job, timeout: float) -> bool:
                wanted = job.message_id.encode()
                hear: Any = events.get_message
                while (event := hear(timeout=timeout)) is not None:
                    if wanted in event["data"]:
                        return True
                return False

            yield heard
