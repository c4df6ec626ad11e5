"""The client without asyncio: the same calls, for any number of threads (design §10).

    with Turnstream.connect("redis://localhost:6379") as ts:
        session = ts.execute(CreateSession(SessionConfig("openai", "gpt-4")))
        ticket = ts.send(AddMessage(session.id, user_message("Hello")))
        applied = ticket.result()

Every client has a thread with an event loop, in which a client of asyncio does the work; what is here hands calls over
to it. A fork does not copy that thread: open the client after the fork.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, overload

from turnstream.client import subscribe
from turnstream.client.addressing import Trace
from turnstream.client.facade import DEFAULT_TIMEOUT, SomeEvent
from turnstream.client.facade import Turnstream as AsyncTurnstream
from turnstream.client.results import CommandResult
from turnstream.client.sessions import Sessions as AsyncSessions
from turnstream.client.tickets import Applied
from turnstream.client.tickets import Ticket as AsyncTicket
from turnstream.domain.commands import Command, Result
from turnstream.domain.events import Event
from turnstream.domain.models import ChatMessage, Session, SessionConfig, SessionInfo, SessionPage
from turnstream.domain.patches import ChatMessagePatch, SessionPatch
from turnstream.errors import CommandTimeout, Unavailable
from turnstream.settings import Settings

__all__ = ["EventSubscription", "Sessions", "Ticket", "Turnstream"]

Value = TypeVar("Value")

WALK_TOGETHER = 256
"""Sessions that `iterate` fetches from the event loop at a time."""


class _ClosedError(RuntimeError):
    """The client was closed."""


class Portal:
    """An event loop in a thread of its own: other threads have it run coroutines, and wait for them."""

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
        """Enter a resource and hold it until `close`; where that fails or is interrupted, the thread ends."""
        try:
            return self.call(self._enter(resource))
        except BaseException:
            self.close()
            raise

    def call(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine in the loop and return its result; where the wait is interrupted, it is cancelled.

        Raises:
            RuntimeError: nothing can be run: after `close`, after a fork, or in the loop's own thread.

        """
        try:
            self._refuse_misuse()
            with self._lock:
                if self.closed:
                    raise _ClosedError("The client is closed")
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise _ClosedError("The client was closed while this call waited; its command may be applied") from None
        finally:
            future.cancel()

    def close(self) -> None:
        """Leave all resources, end what still runs, and join the thread; a second call waits for the first."""
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
            self._thread.join()

    def _run(self) -> None:
        with self._runner:
            self._loop.run_forever()

    def _refuse_misuse(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError("The client was opened by another process: open it after the fork")
        if threading.current_thread() is self._thread:
            raise RuntimeError("The client's own event loop would wait for itself: call from another thread")

    async def _enter(self, resource: AbstractAsyncContextManager[Value]) -> Value:
        async with self._changing:
            return await self._resources.enter_async_context(resource)

    async def _leave(self) -> None:
        # Behind an opening that was interrupted, which may still have a server to stop.
        async with self._changing:
            await self._resources.aclose()


class Ticket:
    """A queued command; ask for its `result`, again and again if need be, to learn that it was applied."""

    def __init__(self, portal: Portal, ticket: AsyncTicket) -> None:
        """Hold a ticket of the client of asyncio."""
        self._portal = portal
        self._ticket = ticket
        self.command_id = ticket.command_id
        self.session_id = ticket.session_id

    def __repr__(self) -> str:
        """Show which command it is, never its content."""
        return repr(self._ticket)

    def result(self, timeout: float | None = None) -> Applied:
        """Wait until the command is applied.

        Args:
            timeout: seconds to wait; by default those that it was sent with.

        Raises:
            Rejected: it was refused; the class says why.
            CommandTimeout: no answer came in time.
            Unavailable: the connection for replies was lost.

        """
        return self._portal.call(_applied(self._ticket, timeout))


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
        with suppress(_ClosedError):
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
        except (StopAsyncIteration, _ClosedError):
            raise StopIteration from None
        except Unavailable:
            if self._portal.closed:
                raise StopIteration from None
            raise


class Sessions:
    """The sessions of a deployment: reads go to what is stored, each write is the command of the same name."""

    def __init__(self, portal: Portal, sessions: AsyncSessions) -> None:
        """Hand calls over to the sessions of the client of asyncio."""
        self._portal = portal
        self._sessions = sessions

    def get_session(self, session_id: str) -> Session | None:
        """Return a session whole, with all its messages; `None` if there is none."""
        return self._portal.call(self._sessions.get_session(session_id))

    def create_session(
        self,
        config: SessionConfig,
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Session:
        """Create a session; raises `SessionAlreadyExists`."""
        return self._portal.call(self._sessions.create_session(config, session_id, metadata))

    def update_session(self, session_id: str, updates: SessionPatch) -> Session:
        """Change what the patch sets; raises `SessionNotFound`."""
        return self._portal.call(self._sessions.update_session(session_id, updates))

    def delete_session(self, session_id: str) -> bool:
        """Delete a session; False if there is none."""
        return self._portal.call(self._sessions.delete_session(session_id))

    def add_message(self, session_id: str, message: ChatMessage) -> Session:
        """Append a message; raises `SessionNotFound` or `MessageAlreadyExists`."""
        return self._portal.call(self._sessions.add_message(session_id, message))

    def update_message(self, session_id: str, message_id: str, updates: ChatMessagePatch) -> Session:
        """Change fields of a message; raises `SessionNotFound` or `MessageNotFound`."""
        return self._portal.call(self._sessions.update_message(session_id, message_id, updates))

    def get_messages(
        self,
        session_id: str,
        *,
        last: int | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> tuple[ChatMessage, ...]:
        """Return messages of a session, oldest first; the arguments are those of the client of asyncio."""
        return self._portal.call(
            self._sessions.get_messages(session_id, last=last, before=before, after=after, limit=limit),
        )

    def list_sessions(
        self,
        limit: int = 100,
        cursor: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        is_active: bool | None = None,  # noqa: FBT001 - the name of the spec's field
    ) -> SessionPage:
        """Return a page of sessions, most recently updated first; the arguments are those of the client of asyncio."""
        return self._portal.call(self._sessions.list_sessions(limit, cursor, provider, model, is_active))

    def iterate(self) -> Iterator[SessionInfo]:
        """Walk over all sessions, each once, the one that was not updated for longest first."""
        infos = self._sessions.iterate()
        while some := self._portal.call(_some(infos)):
            yield from some

    def session_exists(self, session_id: str) -> bool:
        """Tell whether there is such a session."""
        return self._portal.call(self._sessions.session_exists(session_id))

    def count(self) -> int:
        """Return how many sessions there are."""
        return self._portal.call(self._sessions.count())


class Turnstream:
    """A client of a deployment, open until `close` or the end of a `with`; any thread may call it.

    Calls raise what those of the client of asyncio raise, and `RuntimeError` when the client is closed.
    """

    def __init__(self, portal: Portal, client: AsyncTurnstream) -> None:
        """Hand calls over to a client that the portal has opened; `connect` and its like are the ways to get one."""
        self._portal = portal
        self._client = client
        self.sessions = Sessions(portal, client.sessions)

    @classmethod
    def connect(cls, url: str | None = None, *, settings: Settings | None = None) -> Self:
        """Connect to a server where workers run; by default the one of the settings, which come from the environment.

        Raises:
            Unavailable: nobody answers there.
            ConfigurationError: the server or the deployment there does not fit.

        """
        return cls._open(AsyncTurnstream.connect(url, settings=settings))

    @classmethod
    def embedded(cls, directory: str | Path | None = None, *, settings: Settings | None = None) -> Self:
        """Start a server and a worker of your own; without a directory its data is thrown away.

        Raises:
            ConfigurationError: there is no server to start, or the directory is in use.

        """
        return cls._open(AsyncTurnstream.embedded(directory, settings=settings))

    @classmethod
    def in_memory(cls, *, settings: Settings | None = None) -> Self:
        """Keep everything in this process, with a worker of its own; for tests and trials."""
        return cls._open(AsyncTurnstream.in_memory(settings=settings))

    @classmethod
    def _open(cls, connecting: AbstractAsyncContextManager[AsyncTurnstream]) -> Self:
        portal = Portal()
        return cls(portal, portal.open(connecting))

    def __enter__(self) -> Self:
        """Return the client, which is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client."""
        self.close()

    def send(
        self,
        command: Command[Any],
        *,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        trace: Trace | None = None,
    ) -> Ticket:
        """Queue a command; on return it is durable, and will be applied also if this client goes away."""
        sending = self._client.send(command, command_id=command_id, timeout=timeout, trace=trace)
        return Ticket(self._portal, self._portal.call(sending))

    def send_many(self, commands: Iterable[Command[Any]], *, timeout: float = DEFAULT_TIMEOUT) -> list[Ticket]:
        """Queue commands, each session's in the order given; on return all are durable."""
        # The caller's iterable is the caller's to run: it may itself call this client.
        sending = self._client.send_many(tuple(commands), timeout=timeout)
        return [Ticket(self._portal, ticket) for ticket in self._portal.call(sending)]

    def execute(
        self,
        command: Command[Result],
        *,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Result:
        """Have a command applied and return its result: for most the session, as stored when it is read."""
        return self._portal.call(self._client.execute(command, command_id=command_id, timeout=timeout))

    def dispatch(
        self,
        command: Command[Any],
        *,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> CommandResult:
        """Execute a command and return the spec's `CommandResult`; only a rejection becomes one, the rest is raised."""
        return self._portal.call(self._client.dispatch(command, command_id=command_id, timeout=timeout))

    @overload
    def subscribe(self, *, session_id: str | None = None) -> EventSubscription[Event]: ...

    @overload
    def subscribe(self, *types: type[SomeEvent], session_id: str | None = None) -> EventSubscription[SomeEvent]: ...

    def subscribe(self, *types: type[SomeEvent], session_id: str | None = None) -> EventSubscription[SomeEvent]:
        """Return an iterator of live events: of these classes (none: all), of one session or of all."""
        return EventSubscription(self._portal, self._client.subscribe(*types, session_id=session_id))

    def close(self) -> None:
        """Close the client; queued commands outlive it, subscriptions end."""
        self._portal.close()


async def _applied(ticket: AsyncTicket, timeout: float | None) -> Applied:
    """Wait for a ticket, with another time-out than its own."""
    if timeout is None:
        return await ticket
    try:
        async with asyncio.timeout(timeout):
            while True:
                with suppress(CommandTimeout):
                    return await ticket
    except TimeoutError:
        raise CommandTimeout(ticket.command_id, timeout) from None


async def _some(items: AsyncIterator[Value]) -> list[Value]:
    """Return the next items, none at the end."""
    some: list[Value] = []
    async for item in items:
        some.append(item)
        if len(some) == WALK_TOGETHER:
            break
    return some
