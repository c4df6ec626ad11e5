"""Agent Development Kit: the `RedisSessionService` of google-adk-community."""

from collections.abc import Sequence
from typing import ClassVar

from google.adk.events import Event
from google.adk.sessions import Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk_community.sessions import RedisSessionService

from benchmarks.peers.stores.contract import Store
from benchmarks.peers.stores.google_adk_events import APP, USER, event, text_of


class GoogleAdkCommunityStore(Store[Session, Event]):
    """A session is one string of JSON; an append writes the writer's copy of it, whatever is stored."""

    notes: ClassVar[tuple[str, ...]] = (
        "the last 20 are asked for by `num_recent_events`; the service reads all and cuts",
        "one writer appends to the copy that it holds; of 16 writers each reads the session before it appends",
    )
    cuts: ClassVar[bool] = True
    rejoins: ClassVar[bool] = True

    async def open(self, url: str) -> None:
        """Connect."""
        self._service = RedisSessionService(uri=url)

    async def new(self, texts: Sequence[str]) -> Session:
        """Fill the copy and append its last event, which writes all of it."""
        session = await self._service.create_session(app_name=APP, user_id=USER)
        session.events = [event(text) for text in texts[:-1]]
        await self.append(session, texts[-1])
        return session

    async def join(self, session: Session) -> Session:
        """Read the session, as every request does."""
        return await self._service.get_session(app_name=APP, user_id=USER, session_id=session.id)

    async def append(self, session: Session, text: str) -> Event:
        """Append an event to the copy of the session."""
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
        await self._service.cache.aclose()

    async def _read(self, session: Session, config: GetSessionConfig | None) -> list[Event]:
        read = await self._service.get_session(app_name=APP, user_id=USER, session_id=session.id, config=config)
        return read.events
