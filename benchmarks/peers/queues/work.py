"""The work of every contender's task: append a message to a session and announce it, in one transaction."""

import json
import os
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import redis
import redis.asyncio

URL_VARIABLE: Final = "PEERS_REDIS_URL"
"""The server's URL: frameworks import their tasks by name, so it reaches them by the environment."""

EVENTS: Final = "events:message-added"
"""The channel of the events."""

TEXT: Final = (
    "A message of about a hundred characters, as people write them to a chat model on an ordinary working day."
)


class Job(NamedTuple):
    """The arguments of a task: `body` is the message as JSON text."""

    session: str
    message_id: str
    body: str


def url() -> str:
    """Return the server's URL."""
    return os.environ[URL_VARIABLE]


def client() -> redis.Redis:
    """Return a client for tasks in threads; it connects when it is first used."""
    return redis.Redis.from_url(url())


def async_client() -> redis.asyncio.Redis:
    """Return a client for tasks in an event loop; it connects when it is first used."""
    return redis.asyncio.Redis.from_url(url())


def append(store: redis.Redis, session: str, message_id: str, body: str) -> None:
    """Do the work in a thread."""
    with store.pipeline(transaction=True) as pipe:
        _write(pipe, session, message_id, body)
        pipe.execute()


async def append_async(store: redis.asyncio.Redis, session: str, message_id: str, body: str) -> None:
    """Do the work in an event loop."""
    async with store.pipeline(transaction=True) as pipe:
        _write(pipe, session, message_id, body)
        await pipe.execute()


def _write(pipe: Any, session: str, message_id: str, body: str) -> None:  # noqa: ANN401 - either kind of pipeline
    pipe.hset(messages_key(session), message_id, body)
    pipe.rpush(order_key(session), message_id)
    pipe.hincrby(session_key(session), "count", 1)
    pipe.hset(session_key(session), "updatedAt", _now())
    pipe.publish(EVENTS, f'{{"type":"message-added","sessionId":"{session}","message":{body}}}')


def messages_key(session: str) -> str:
    """The hash of a session's messages by id."""
    return f"messages:{session}"


def order_key(session: str) -> str:
    """The list of a session's message ids."""
    return f"order:{session}"


def session_key(session: str) -> str:
    """The hash of a session's header."""
    return f"session:{session}"


def jobs_for(sessions: Iterable[str]) -> list[Job]:
    """Make a message of 244 bytes for each of the sessions named."""
    return [_job(session) for session in sessions]


def _job(session: str) -> Job:
    message_id = str(uuid.uuid4())
    content = [{"type": "text", "text": TEXT}]
    message = {"id": message_id, "role": "user", "content": content, "createdAt": _now()}
    return Job(session, message_id, json.dumps(message, separators=(",", ":")))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
