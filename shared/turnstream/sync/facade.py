"""The base classes of the generated sync client: they pass calls to the async client."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, ParamSpec, Self, TypeVar

from turnstream.client.consumers.consumer import is_handler
from turnstream.errors import Unavailable
from turnstream.sync.handler_threads import run_with_threads
from turnstream.sync.portal import ClosedError, Portal

ITEMS_PER_CALL = 256
"""Items that an iteration fetches from the event loop at a time."""

Target = TypeVar("Target", covariant=True)
Value = TypeVar("Value")
Parameters = ParamSpec("Parameters")


class Facade(Generic[Target]):
    """An object of the async client, for other threads."""

    def __init__(self, portal: Portal, target: Target) -> None:
        """Pass calls to an object of the async client in the event loop of the portal."""
        self._portal = portal
        self._target = target

    def _check(self) -> None:
        """Raise `Unavailable` if the client is closed."""
        self._portal.check()

    def _call(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine in the event loop and return its result."""
        return self._portal.call(work)

    def _run(self, function: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Value:
        """Run a function in the event loop and return its result."""

        async def run() -> Value:
            return function(*args, **kwargs)

        return self._portal.call(run())

    def _end(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine that closes something; a closed client has closed it already."""
        with suppress(ClosedError):
            self._portal.call(work)

    def _iterate(self, items: AsyncIterator[Value]) -> Iterator[Value]:
        """Yield the items, which are fetched some at a time."""
        while found := self._portal.call(_some(items)):
            yield from found

    def _next(self, items: AsyncIterator[Value]) -> Value:
        """Return the next item of a subscription; closing the client ends the iteration."""
        try:
            return self._portal.call(_one(items))
        except (StopAsyncIteration, ClosedError):
            raise StopIteration from None
        except Unavailable:
            if self._portal.closed:
                raise StopIteration from None
            raise

    def _handle(
        self, run: Callable[[Callable[[Value], Awaitable[None]]], Awaitable[None]], handler: Callable[[Value], None]
    ) -> None:
        """Run a consumer with a handler that is called in threads."""
        self._portal.call(run_with_threads(run, handler))


class ClientFacade(Facade[Target]):
    """A client, open until `close` or the end of a `with`."""

    @classmethod
    def _open(cls, opening: AbstractAsyncContextManager[Target]) -> Self:
        """Open an async client in a new event loop, which ends with it."""
        portal = Portal()
        return cls(portal, portal.open(opening))

    def __enter__(self) -> Self:
        """Return the client, which is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client."""
        self._close()

    def _close(self) -> None:
        """Close the async client, and end the event loop; a handler does not wait for that, because the loop does."""
        self._portal.close(join=not is_handler())


async def _some(items: AsyncIterator[Value]) -> list[Value]:
    """Return the next items; none at the end."""
    found: list[Value] = []
    async for item in items:
        found.append(item)
        if len(found) == ITEMS_PER_CALL:
            break
    return found


async def _one(items: AsyncIterator[Value]) -> Value:
    return await anext(items)
