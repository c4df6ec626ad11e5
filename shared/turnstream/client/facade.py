"""`Turnstream`: the one object that producers and subscribers hold (design §10)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from msgspec.structs import replace

from turnstream.application.answers import get_session
from turnstream.application.listing import page
from turnstream.application.routing import partition_of
from turnstream.client import opening
from turnstream.client.connecting import Connecting
from turnstream.client.outbox import Outbox
from turnstream.client.results import CommandResult, result_of
from turnstream.client.sessions import Sessions
from turnstream.client.subscribe import EventSubscription
from turnstream.client.tickets import Replies, Ticket
from turnstream.codec.commands import encode_command
from turnstream.codec.envelope import check_entry
from turnstream.domain.commands import AnyCommand, Command, CreateSession, GetSession, ListSessions, Result
from turnstream.domain.events import Event
from turnstream.errors import Rejected
from turnstream.messages import new_id
from turnstream.ports import Backend, CommandEntry
from turnstream.settings import Settings

SomeEvent = TypeVar("SomeEvent", bound=Event)

DEFAULT_TIMEOUT = 30.0
"""Seconds to wait for a command to be applied."""

YIELD_EVERY = 500
"""Commands of a `send_many` that are encoded before others in the event loop get their turn."""


class Trace(msgspec.Struct, frozen=True):
    """What travels with a command into its events: an id of the producer's own, and a W3C trace context."""

    correlation_id: str | None = None
    traceparent: str | None = None


NO_TRACE = Trace()


class Turnstream:
    """A client of a deployment. Make one by `connect`, `embedded` or `in_memory`; they run the same code.

    `ts.sessions` has the repository's methods of the spec.
    """

    def __init__(self, backend: Backend, settings: Settings, resources: AsyncExitStack) -> None:
        """Use a deployment; `resources` are closed with the client."""
        self._backend = backend
        self._settings = settings
        self._resources = resources
        self._replies = Replies(backend.channels, backend.partitions, new_id())
        self._outbox = Outbox(backend.queue)
        self.sessions = Sessions(self, backend.reader, backend.partitions)

    @classmethod
    def connect(cls, url: str | None = None, *, settings: Settings | None = None) -> "Connecting[Turnstream]":
        """Connect to a server where workers run.

        Args:
            url: `redis://…`, `rediss://…` or `unix://…`; by default the settings'.
            settings: by default those of the environment (`TURNSTREAM_…`).

        Raises:
            Unavailable: nobody answers there.
            ConfigurationError: the server or the deployment there does not fit.

        """
        return Connecting(partial(cls._opened_by, partial(opening.connected, url, settings)))

    @classmethod
    def embedded(
        cls,
        directory: str | Path | None = None,
        *,
        settings: Settings | None = None,
    ) -> "Connecting[Turnstream]":
        """Start a server of your own, with a worker in this event loop (needs `turnstream[embedded]`).

        Args:
            directory: where its data is kept; by default it is thrown away.
            settings: by default those of the environment.

        Raises:
            ConfigurationError: there is no server to start, or the directory is in use.

        """
        return Connecting(partial(cls._opened_by, partial(opening.embedded, directory, settings)))

    @classmethod
    def in_memory(cls, *, settings: Settings | None = None) -> "Connecting[Turnstream]":
        """Keep everything in this process, with a worker in this event loop; for tests and trials."""
        return Connecting(partial(cls._opened_by, partial(opening.in_memory, settings)))

    @classmethod
    async def _opened_by(cls, opens: Callable[[], Awaitable[opening.Opened]]) -> "Turnstream":
        return cls(*await opens())

    async def send(
        self,
        command: Command[Any],
        *,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        trace: Trace | None = None,
    ) -> Ticket:
        """Queue a command; on return it is durable, and will be applied also if this client goes away.

        Args:
            command: what is to be done.
            command_id: an id of your own for a resend that must not be applied twice; by default a new one.
            timeout: seconds that the ticket waits for the command to be applied.
            trace: what its events should carry.

        Raises:
            InvalidCommand: a worker would refuse it; names the field. Nothing was sent.
            Overloaded: too many commands wait there already.
            Unavailable: it is not known whether it was queued.

        """
        partition, session_id, entry = self._entry(command, command_id, trace)
        await self._replies.open()
        ticket = self._ticket(session_id, entry, timeout)
        try:
            await self._outbox.put(partition, [entry])
        except Exception:
            self._replies.forget(entry.command_id)
            raise
        return ticket

    async def send_many(
        self,
        commands: Iterable[Command[Any]],
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[Ticket]:
        """Queue commands, each session's in the order given; on return all are durable.

        Raises:
            InvalidCommand: one of them would be refused; nothing was sent.
            Overloaded: too many commands wait there already; some may be queued.
            Unavailable: it is not known which of them were queued.

        """
        lanes: dict[int, list[CommandEntry]] = {}
        addressed: list[tuple[str, CommandEntry]] = []
        for command in commands:
            partition, session_id, entry = self._entry(command, None, None)
            lanes.setdefault(partition, []).append(entry)
            addressed.append((session_id, entry))
            if len(addressed) % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await self._replies.open()
        tickets = [self._ticket(session_id, entry, timeout) for session_id, entry in addressed]
        queued = [self._outbox.put(partition, entries) for partition, entries in lanes.items()]
        for failure in await asyncio.gather(*queued, return_exceptions=True):
            if failure is not None:
                raise failure
        return tickets

    async def execute(
        self,
        command: Command[Result],
        *,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Result:
        """Have a command applied and return its result: for most the session, as stored when it is read.

        Queries are answered from the repository at once; they see every command whose ticket or result was awaited.

        Raises:
            Rejected: it was refused; the class says why.
            CommandTimeout: no answer came in time; it may still be applied.
            Overloaded: too many commands wait there already.
            Unavailable: it is not known whether it was queued.

        """
        if isinstance(command, GetSession | ListSessions):
            return cast("Result", await self._query(command))
        ticket = await self.send(command, command_id=command_id, timeout=timeout)
        return cast("Result", await result_of(self._backend.reader, command, await ticket))

    async def dispatch(
        self,
        command: Command[Any],
        *,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> CommandResult:
        """Execute a command and return the spec's `CommandResult`; only a rejection becomes one, the rest is raised."""
        try:
            return CommandResult(success=True, data=await self.execute(command, command_id=command_id, timeout=timeout))
        except Rejected as error:
            return CommandResult(success=False, error=str(error))

    def subscribe(self, *types: type[SomeEvent], session_id: str | None = None) -> EventSubscription[SomeEvent]:
        """Return an async iterator of live events.

        Args:
            types: the classes of event; none for all.
            session_id: only events of this session.

        """
        return EventSubscription(self._backend.channels, types, session_id, self._settings.subscriber_buffer)

    async def aclose(self) -> None:
        """Close the client; queued commands outlive it."""
        await self._outbox.aclose()
        await self._replies.aclose()
        await self._resources.aclose()

    def _entry(
        self,
        command: Command[Any],
        command_id: str | None,
        trace: Trace | None,
    ) -> tuple[int, str, CommandEntry]:
        """Check a command and put it into its envelope."""
        if isinstance(command, CreateSession) and command.session_id is None:
            command = replace(command, session_id=new_id())
        known = cast("AnyCommand", command)
        data = encode_command(known, self._settings.max_message_bytes)
        session_id = "" if isinstance(known, ListSessions) else known.session_id or ""
        partition = partition_of(session_id, self._backend.partitions)
        trace = trace or NO_TRACE
        entry = CommandEntry(
            new_id() if command_id is None else command_id,
            command.type,
            data,
            self._replies.channel(partition),
            trace.correlation_id,
            trace.traceparent,
        )
        return partition, session_id, entry if command_id is None and trace is NO_TRACE else check_entry(entry)

    def _ticket(self, session_id: str, entry: CommandEntry, timeout: float) -> Ticket:
        return Ticket(entry.command_id, session_id, self._replies.expect(entry.command_id), timeout)

    async def _query(self, query: GetSession | ListSessions) -> Any:  # noqa: ANN401 - the query's own result
        encode_command(query, self._settings.max_message_bytes)
        if isinstance(query, ListSessions):
            return await page(self._backend.reader, self._backend.partitions, query)
        return await get_session(self._backend.reader, query)
