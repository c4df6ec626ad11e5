"""What the tests of an application need: a client without a server, and the events of what the application did.

Example:
    async with testing.client() as ts:
        session_id = await ChatService(ts).ask("Hello")
        added = await testing.events(ts, MessageAdded, session_id=session_id)
        assert [event.message.role for event in added] == ["user", "assistant"]

"""

from typing import Any, TypeVar, overload

from turnstream.client.client import Turnstream
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.domain.events import Event
from turnstream.pending import PendingConnection
from turnstream.settings import Settings

__all__ = ["client", "events"]

SomeEvent = TypeVar("SomeEvent", bound=Event)

PARTITIONS = 4
"""Enough that sessions share partitions and differ in them, and few enough to be quick."""


def client(**overrides: Any) -> PendingConnection[Turnstream]:  # noqa: ANN401 - each setting has a type of its own
    """Open a client that keeps everything in memory, with a worker: the same code as on a server, in milliseconds.

    Each client is a deployment of its own. It belongs to the event loop that opened it, so open one for each test.

    Args:
        overrides: settings by name, as in `client(deduplication_window=1.0)`; the environment changes none.

    Raises:
        ConfigurationError: the value of a setting is not allowed.

    Example:
        @pytest_asyncio.fixture
        async def ts():
            async with testing.client() as ts:
                yield ts

    """
    values: dict[str, Any] = {"partitions": PARTITIONS, **overrides}
    return Turnstream.in_memory(settings=Settings(**values))


@overload
async def events(ts: Turnstream, *, session_id: str | None = None) -> list[Event]: ...


@overload
async def events(
    ts: Turnstream, a: type[SomeEvent], /, *types: type[SomeEvent], session_id: str | None = None
) -> list[SomeEvent]: ...


async def events(ts: Turnstream, *types: type[Event], session_id: str | None = None) -> list[Any]:
    """Return the events so far, those of a session in their order.

    Args:
        ts: the client.
        types: the classes of event; all by default.
        session_id: only events of this session.

    """
    async with ts.subscribe(*types, session_id=session_id, start="beginning") as subscription:
        past = subscription.until(await ts.position())
        return [event async for event in past if not isinstance(event, ResyncRequired)]
