"""`await Turnstream.connect(…)` and `async with Turnstream.connect(…)`: one call for both."""

from collections.abc import Awaitable, Callable, Generator
from typing import Generic, Protocol, TypeVar


class Closes(Protocol):
    """Something to be closed."""

    async def aclose(self) -> None:
        """Close it."""
        ...


Opened = TypeVar("Opened", bound=Closes)


class Connecting(Generic[Opened]):
    """A client about to be opened: await it, and close the client yourself, or enter it."""

    def __init__(self, opening: Callable[[], Awaitable[Opened]]) -> None:
        """Open by this call, not before."""
        self._opening = opening
        self._opened: Opened | None = None

    def __await__(self) -> Generator[object, None, Opened]:
        """Open the client."""
        return self._open().__await__()

    async def __aenter__(self) -> Opened:
        """Open the client."""
        self._opened = await self._opening()
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        """Close the client."""
        if self._opened is not None:
            await self._opened.aclose()

    async def _open(self) -> Opened:
        return await self._opening()
