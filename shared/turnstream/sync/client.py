"""The client without asyncio: every call is handed over to a client of asyncio."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Self, overload

from turnstream.application.queries.verifier import Verification
from turnstream.client.client import Turnstream as AsyncTurnstream
from turnstream.client.consumers.consumer import is_handler
from turnstream.client.consumers.retry_policy import ATTEMPTS, RetryPolicy
from turnstream.client.results import CommandResult
from turnstream.client.sending.outbox import Trace, WhenFull
from turnstream.client.subscriber import A, B, C, D
from turnstream.client.subscriptions.start import Start
from turnstream.domain.commands import Command, Result
from turnstream.domain.events import Event
from turnstream.domain.position import Position
from turnstream.settings import Settings
from turnstream.sync.admin import Admin
from turnstream.sync.consumer import Consumer
from turnstream.sync.portal import Portal
from turnstream.sync.sessions import Sessions
from turnstream.sync.subscriptions import EventSubscription
from turnstream.sync.tickets import Ticket


class Turnstream:
    """A client of a deployment, open until `close` or the end of a `with`; any thread may call it.

    Calls raise what those of the client of asyncio raise; `Unavailable` is a `RuntimeError`, too, when it is closed.
    """

    def __init__(self, portal: Portal, client: AsyncTurnstream) -> None:
        """Hand calls over to a client that the portal has opened; `connect` and its like are the ways to get one."""
        self._portal = portal
        self._client = client
        self.sessions = Sessions(portal, client.sessions)
        self.admin = Admin(portal, client.admin)

    @classmethod
    def connect(cls, url: str | None = None, *, settings: Settings | None = None) -> Self:
        """Connect to a server where workers run; by default the one of the settings, which come from the environment.

        The forms of a URL are those of the client of asyncio: `redis://`, `rediss://`, `unix://`, `redis+cluster://`
        and `redis+sentinel://`.

        Raises:
            Unavailable: no server answers there.
            ConfigurationError: the server or the deployment there does not fit.

        """
        return cls._open(AsyncTurnstream.connect(url, settings=settings))

    @classmethod
    def embedded(cls, directory: str | Path | None = None, *, settings: Settings | None = None) -> Self:
        """Start an embedded server and a worker; without a directory its data is thrown away.

        Raises:
            ConfigurationError: there is no server to start, or the directory is in use.

        """
        return cls._open(AsyncTurnstream.embedded(directory, settings=settings))

    @classmethod
    def in_memory(cls, *, settings: Settings | None = None) -> Self:
        """Keep everything in this process, with a worker; for tests and trials."""
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
        timeout: float | None = None,
        when_full: WhenFull = "raise",
        trace: Trace | None = None,
        apply_within: float | None = None,
    ) -> Ticket:
        """Queue a command; on return it is durable, and will be applied also if this client goes away."""
        sending = self._client.send(
            command, command_id=command_id, timeout=timeout, when_full=when_full, trace=trace, apply_within=apply_within
        )
        return Ticket(self._portal, self._portal.call(sending))

    def send_many(
        self,
        commands: Iterable[Command[Any] | tuple[Command[Any], str]],
        *,
        timeout: float | None = None,
        when_full: WhenFull = "raise",
        trace: Trace | None = None,
        apply_within: float | None = None,
    ) -> list[Ticket]:
        """Queue commands, each session's in the order given; on return all are durable."""
        # The caller's iterable is the caller's to run: it may itself call this client.
        sending = self._client.send_many(
            tuple(commands), timeout=timeout, when_full=when_full, trace=trace, apply_within=apply_within
        )
        return [Ticket(self._portal, ticket) for ticket in self._portal.call(sending)]

    def execute(
        self,
        command: Command[Result],
        *,
        command_id: str | None = None,
        timeout: float | None = None,
        when_full: WhenFull = "raise",
        trace: Trace | None = None,
        apply_within: float | None = None,
    ) -> Result:
        """Have a command applied and return its result: for most the session, as stored when it is read."""
        executing = self._client.execute(
            command, command_id=command_id, timeout=timeout, when_full=when_full, trace=trace, apply_within=apply_within
        )
        return self._portal.call(executing)

    def dispatch(
        self,
        command: Command[Any],
        *,
        command_id: str | None = None,
        timeout: float | None = None,
        when_full: WhenFull = "raise",
        trace: Trace | None = None,
        apply_within: float | None = None,
    ) -> CommandResult:
        """Execute a command and return a `CommandResult`; only a rejection becomes one, the rest is raised."""
        dispatching = self._client.dispatch(
            command, command_id=command_id, timeout=timeout, when_full=when_full, trace=trace, apply_within=apply_within
        )
        return self._portal.call(dispatching)

    # One overload a number of classes, because type checkers would join several into `Event`.
    @overload
    def subscribe(self, *, session_id: str | None = None, start: Start = "now") -> EventSubscription[Event]: ...

    @overload
    def subscribe(
        self, a: type[A], /, *, session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A]: ...

    @overload
    def subscribe(
        self, a: type[A], b: type[B], /, *, session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A | B]: ...

    @overload
    def subscribe(
        self, a: type[A], b: type[B], c: type[C], /, *, session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A | B | C]: ...

    @overload
    def subscribe(
        self, a: type[A], b: type[B], c: type[C], d: type[D], /, *, session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A | B | C | D]: ...

    @overload
    def subscribe(
        self, *types: type[A], session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[A]: ...

    def subscribe(
        self, *types: type[Any], session_id: str | None = None, start: Start = "now"
    ) -> EventSubscription[Any]:
        """Return an iterator of events: of these classes (none: all), of one session or of all, from `start` on."""
        self._portal.check()
        return EventSubscription(self._portal, self._client.subscribe(*types, session_id=session_id, start=start))

    # As for `subscribe`.
    @overload
    def consumer(
        self, name: str, /, *, start: Start = "now", attempts: int | RetryPolicy = ATTEMPTS, session_prefix: str = ""
    ) -> Consumer[Event]: ...

    @overload
    def consumer(
        self,
        name: str,
        a: type[A],
        /,
        *,
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[A]: ...

    @overload
    def consumer(
        self,
        name: str,
        a: type[A],
        b: type[B],
        /,
        *,
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[A | B]: ...

    @overload
    def consumer(
        self,
        name: str,
        a: type[A],
        b: type[B],
        c: type[C],
        /,
        *,
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[A | B | C]: ...

    @overload
    def consumer(
        self,
        name: str,
        /,
        *types: type[A],
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[A]: ...

    def consumer(
        self,
        name: str,
        /,
        *types: type[Any],
        start: Start = "now",
        attempts: int | RetryPolicy = ATTEMPTS,
        session_prefix: str = "",
    ) -> Consumer[Any]:
        """Return a consumer of a durable subscription; `run(handler)` handles its share of the events."""
        self._portal.check()
        consumer = self._client.consumer(name, *types, start=start, attempts=attempts, session_prefix=session_prefix)
        return Consumer(self._portal, consumer)

    def position(self, since: datetime | None = None) -> Position:
        """Return the place in the history that is reached now, or the one before the first event since a moment."""
        return self._portal.call(self._client.position(since))

    def verify(self, session_id: str) -> Verification:
        """Compare a stored session with the fold of its events, as far as retention has kept them."""
        return self._portal.call(self._client.verify(session_id))

    def close(self) -> None:
        """Close the client. Queued commands outlive it; subscriptions end, durable ones after events in flight."""
        self._portal.close(join=not is_handler())
