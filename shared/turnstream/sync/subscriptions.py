"""Subscriptions of the client without asyncio."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, Self

from turnstream.client.subscriptions import subscription
from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.domain.position import Position
from turnstream.errors import Unavailable
from turnstream.sync.portal import ClosedError, Portal
from turnstream.sync.sessions import some


class EventSubscription(Generic[subscription.SomeEvent]):
    """An iterator of events, live from entering `with`, or from the first step of a bare `for`.

    Any thread may iterate or close it. It ends when it or its client is closed. Each event that was asked for comes
    once; if unseen history is gone, the iteration gives a `ResyncRequired` in its place.
    """

    def __init__(self, portal: Portal, events: subscription.EventSubscription[subscription.SomeEvent]) -> None:
        """Hold a subscription of the client of asyncio."""
        self._portal = portal
        self._events = events

    def __enter__(self) -> Self:
        """Listen; what happens from now on is seen."""
        self._portal.call(self._events.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()

    def ping(self) -> None:
        """Return after the server has answered on this subscription's connection, after all it published before."""
        self._portal.call(self._events.ping())

    def close(self) -> None:
        """Stop to listen; the iteration ends."""
        with suppress(ClosedError):
            self._portal.call(self._events.aclose())

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    @property
    def position(self) -> Position | None:
        """The position after the last event of the iteration; `None` before it is open."""
        return self._events.position

    def until(self, end: Position) -> Iterator[subscription.SomeEvent | ResyncRequired]:
        """Yield the events up to a position, and end when everything before it has been read."""
        events = self._events.until(end)
        while found := self._portal.call(some(events)):
            yield from found

    def __next__(self) -> subscription.SomeEvent | ResyncRequired:
        """Wait for the next event.

        Raises:
            Unavailable: it is not open yet, and the server does not answer.

        """
        try:
            return self._portal.call(self._events.__anext__())
        except (StopAsyncIteration, ClosedError):
            raise StopIteration from None
        except Unavailable:
            if self._portal.closed:
                raise StopIteration from None
            raise
