"""Subscriptions of the client without asyncio."""

from contextlib import suppress
from typing import Generic, Self

from turnstream.client import subscribe
from turnstream.errors import Unavailable
from turnstream.sync.portal import ClosedError, Portal


class EventSubscription(Generic[subscribe.SomeEvent]):
    """An iterator of events, live from entering `with`, or from the first step of a bare `for`.

    Any thread may iterate or close it. It ends when it or its client is closed; a lost connection, or a consumer so
    slow that the buffer fills, raises `Unavailable`.
    """

    def __init__(self, portal: Portal, events: subscribe.EventSubscription[subscribe.SomeEvent]) -> None:
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

    def close(self) -> None:
        """Stop to listen; the iteration ends."""
        with suppress(ClosedError):
            self._portal.call(self._events.aclose())

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> subscribe.SomeEvent:
        """Wait for the next event.

        Raises:
            Unavailable: the connection was lost, or the buffer was full.

        """
        try:
            return self._portal.call(self._events.__anext__())
        except (StopAsyncIteration, ClosedError):
            raise StopIteration from None
        except Unavailable:
            if self._portal.closed:
                raise StopIteration from None
            raise
