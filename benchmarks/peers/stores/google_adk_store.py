"""Agent Development Kit: the `RedisSessionService` of google-adk itself."""

from collections.abc import Sequence
from typing import ClassVar

from google.adk.events import Event
from google.adk.integrations.redis import RedisSessionService, RedisSessionServiceConfig
from google.adk.sessions import Session
from google.adk.sessions.base_session_service import GetSessionConfig
from redis.asyncio import Redis

from benchmarks.peers.stores.contract import Store
from benchmarks.peers.stores.google_adk_events import APP, USER, event, text_of


class GoogleAdkStore(Store[Session, Event]):
    """A session is one string of JSON; an append reads and rewrites it, and tries again if another wrote it."""

    notes: ClassVar[tuple[str, ...]] = (
        "the last 20 are asked for by `num_recent_events`; the service reads all and cuts",
        "long sessions are written in its stored form: building them by appends takes time by the square of the length",
    )
    cuts: ClassVar[bool] = True

    async def open(self, url: str) -> None:
        """Connect."""
        self._redis = Redis.from_url(url, decode_responses=True)
        self._service = RedisSessionService(RedisSessionServiceConfig(uri=url), redis_client=self._redis)

    async def new(self, texts: Sequence[str]) -> Session:
        """Create a session and put the JSON that its appends would leave under its key."""
        session = await self._service.create_session(app_name=APP, user_id=USER)
        session.events = [event(text) for text in texts]
        config = self._service.config
        key = f"{config.key_prefix}{APP}:{USER}:{session.id}"
        await self._redis.set(key, session.model_dump_json(), xx=True, ex=config.ttl_seconds)
        return session

    async def join(self, session: Session) -> Session:
        """Read the session, as every request does."""
        return await self._service.get_session(app_name=APP, user_id=USER, session_id=session.id)

    async def append(self, session: Session, text: str) -> Event:
        """Append an event to a session that was read before; reading it is not measured."""
        return await self._service.append_event(session, event(text))

    async def last(self, session: Session, count: int) -> list[Event]:
        """Read the session with its recent events."""
        return await self._read(session, GetSessionConfig(num_recent_events=count))

    async def all(self, session: Session) -> list[Event]:
        """Read the session."""
        return await self._read(session, None)

    def texts(self, messages: Sequence[Event]) -> list[str]:
        """Return the text of each event."""
        return [text_of(message) for message in messages]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _read(self, session: Session, config: GetSessionConfig | None) -> list[Event]:
        read = await self._service.get_session(app_name=APP, user_id=USER, session_id=session.id, config=config)
        return read.events
