"""A connection that is about to be made: what `Turnstream.connect` and its like return."""

from collections.abc import Awaitable, Callable, Generator
from typing import Generic, Protocol, TypeVar


class AsyncClosable(Protocol):
    """An object with connections to close."""

    async def aclose(self) -> None:
        """Close it."""
        ...


Connected = TypeVar("Connected", bound=AsyncClosable)


class PendingConnection(Generic[Connected]):
    """A client or a worker that is about to be connected.

    Enter it with `async with`, which closes the client or worker at the end. Or await it, and close what you get.
    """

    def __init__(self, connecting: Callable[[], Awaitable[Connected]]) -> None:
        """Connect by this call, when it is entered or awaited."""
        self._connecting = connecting
        self._connected: Connected | None = None

    def __await__(self) -> Generator[object, None, Connected]:
        """Connect."""
        return self._connect().__await__()

    async def __aenter__(self) -> Connected:
        """Connect."""
        self._connected = await self._connecting()
        return self._connected

    async def __aexit__(self, *_: object) -> None:
        """Close what was connected."""
        if self._connected is not None:
            await self._connected.aclose()

    async def _connect(self) -> Connected:
        return await self._connecting()
