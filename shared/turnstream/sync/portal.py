"""An event loop in a separate thread, for callers without one."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Generic, TypeVar

from turnstream.errors import OpenedElsewhere, Unavailable

Value = TypeVar("Value")


class ClosedError(Unavailable, RuntimeError):
    """The client was closed."""


class _Call(Generic[Value]):
    """A coroutine on its way through the loop; an interrupt may come at any moment, also before its future is known."""

    def __init__(self, work: Coroutine[Any, Any, Value]) -> None:
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        self._given_up = False

    async def run(self) -> Value:
        self._task = asyncio.current_task()
        if self._given_up:
            raise asyncio.CancelledError
        return await self._work

    def give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """End it, if it has not ended; called from another thread."""
        self._given_up = True
        if self._task is None:
            self._work.close()
        elif not self._task.done():
            loop.call_soon_threadsafe(self._task.cancel)


class Portal:
    """An event loop in a separate thread: other threads run coroutines in it, and wait for them."""

    def __init__(self) -> None:
        """Start the thread."""
        self.closed = False
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._resources = AsyncExitStack()
        self._changing = asyncio.Lock()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._run, name="turnstream", daemon=True)
        self._thread.start()

    def open(self, resource: AbstractAsyncContextManager[Value]) -> Value:
        """Enter a resource and hold it until `close`; if that fails or is interrupted, the thread ends."""
        try:
            return self.call(self._enter(resource))
        except BaseException:
            self.close()
            raise

    def call(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine in the loop and return its result; if the wait is interrupted, it is cancelled.

        Raises:
            OpenedElsewhere: another process opened it.
            RuntimeError: nothing can be run: after `close`, or in the loop's own thread.

        """
        call = _Call(work)
        try:
            self._refuse_misuse()
            with self._lock:
                self.check()
                future = asyncio.run_coroutine_threadsafe(call.run(), self._loop)
            return future.result()
        except CancelledError:
            raise ClosedError("The client was closed while this call waited; its command may be applied") from None
        finally:
            call.give_up(self._loop)

    def check(self) -> None:
        """Raise `RuntimeError` if nothing can be run any more."""
        if self.closed:
            raise ClosedError("The client is closed: open a new one")

    def close(self, *, join: bool = True) -> None:
        """Leave all resources, end what still runs, and join the thread; a second call waits for the first.

        A thread that does work for the loop must not join it: the loop ends after that work.
        """
        if os.getpid() != self._process:
            return
        self._refuse_misuse()
        with self._lock:
            first, self.closed = not self.closed, True
        try:
            if first:
                asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result()
        finally:
            if first:
                self._loop.call_soon_threadsafe(self._loop.stop)
            if join:
                self._thread.join()

    def _run(self) -> None:
        with self._runner:
            self._loop.run_forever()

    def _refuse_misuse(self) -> None:
        if os.getpid() != self._process:
            raise OpenedElsewhere(f"process {self._process}", f"process {os.getpid()}")
        if threading.current_thread() is self._thread:
            raise RuntimeError("The client's own event loop would wait for itself: call from another thread")

    async def _enter(self, resource: AbstractAsyncContextManager[Value]) -> Value:
        async with self._changing:
            return await self._resources.enter_async_context(resource)

    async def _leave(self) -> None:
        # After an interrupted opening, which may still have a server to stop.
        async with self._changing:
            await self._resources.aclose()
