"""`Turnstream`: the one object that producers and subscribers hold (design §10)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

from turnstream.application.answers import get_session
from turnstream.application.listing import page
from turnstream.application.verifying import Verification, Verifier
from turnstream.client import opening
from turnstream.client.addressing import Addressed, Addressing, Trace
from turnstream.client.connecting import Connecting
from turnstream.client.malformed import Malformed
from turnstream.client.outbox import Outbox
from turnstream.client.parked import Parked
from turnstream.client.replies import Replies
from turnstream.client.results import CommandResult, Results, gives_session
from turnstream.client.sessions import Sessions
from turnstream.client.subscribing import Subscribing
from turnstream.client.tickets import Ticket
from turnstream.codec.commands import check_session_id, encode_command
from turnstream.domain.commands import QUERIES, Command, GetSession, ListSessions, Result
from turnstream.errors import Overloaded, Rejected, Unavailable
from turnstream.messages import new_id
from turnstream.ports import Backend, CommandEntry
from turnstream.settings import Settings

DEFAULT_TIMEOUT = 30.0
"""Seconds to wait for a command to be applied."""

YIELD_EVERY = 500
"""Commands of a `send_many` that are encoded before others in the event loop get their turn."""


class Turnstream(Subscribing):
    """A client of a deployment. Make one by `connect`, `embedded` or `in_memory`; they run the same code.

    `ts.sessions` has the repository's methods of the spec; `ts.parked`, `ts.malformed` and `ts.subscriptions` are for
    operators. Every call raises `OpenedElsewhere` in another event loop than the one that opened it, and after a fork.
    """

    def __init__(self, backend: Backend, settings: Settings, resources: AsyncExitStack) -> None:
        """Use a deployment; `resources` are closed with the client."""
        super().__init__(backend, settings)
        self._resources = resources
        self._outbox = Outbox(backend.queue, settings.deduplication_window, settings.max_backlog)
        self._replies = Replies(backend.channels, backend.partitions, new_id(), self._outbox)
        self._addressing = Addressing(backend.partitions, settings.max_message_bytes, self._replies.channel)
        self._results = Results(self._open.reader)
        self.sessions = Sessions(self, self._open.reader, backend.partitions)
        self.parked = Parked(self, self._open.quarantine, backend.partitions)
        self.malformed = Malformed(self._open.quarantine, backend.partitions)

    @classmethod
    def connect(cls, url: str | None = None, *, settings: Settings | None = None) -> "Connecting[Turnstream]":
        """Connect to a server where workers run.

        Args:
            url: one server, as `redis://user:password@host:6379/0`, `rediss://…` (encrypted) or `unix:///path`; a
                cluster, as `redis+cluster://host:port,…`; or what Sentinels watch, as
                `redis+sentinel://host:port,…/service` (both with `rediss+…` if encrypted); by default the settings'.
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
        wait: bool = False,
        trace: Trace | None = None,
    ) -> Ticket:
        """Queue a command; on return it is durable, and will be applied also if this client goes away.

        Args:
            command: what is to be done.
            command_id: an id of your own for a resend that must not be applied twice; by default a new one.
            timeout: seconds for which queueing is tried while the server does not answer, and then seconds that the
                ticket waits for the command to be applied.
            wait: where too many commands wait already, wait for room up to `timeout` seconds.
            trace: what its events should carry.

        Raises:
            InvalidCommand: a worker would refuse it; names the field. Nothing was sent.
            DuplicateMismatch: this client waits for another command under this id. Nothing was sent.
            Overloaded: too many commands wait there already.
            Unavailable: it is not known whether it was queued.

        """
        self._open.check()
        addressed = self._addressing.address(command, command_id, trace)
        return await self._sent(addressed, timeout, wait=wait, own_id=command_id is not None)

    async def send_many(
        self,
        commands: Iterable[Command[Any]],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        wait: bool = False,
    ) -> list[Ticket]:
        """Queue commands, each session's in the order given; on return all are durable.

        `timeout` and `wait` are those of `send`.

        Raises:
            InvalidCommand: one of them would be refused; nothing was sent.
            Overloaded: too many commands wait there already; some may be queued.
            Unavailable: it is not known which of them were queued.

        """
        self._open.check()
        all_addressed: list[Addressed] = []
        lanes: dict[int, list[CommandEntry]] = {}
        for command in commands:
            addressed = self._addressing.address(command)
            all_addressed.append(addressed)
            lanes.setdefault(addressed.partition, []).append(addressed.entry)
            if len(all_addressed) % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                self._open.check()
        for partition in lanes:
            await self._replies.open(partition)
        with self._replies.expecting(all_addressed, timeout) as expected:
            queued = [self._queued(partition, entries, timeout, wait=wait) for partition, entries in lanes.items()]
            for failure in await asyncio.gather(*queued, return_exceptions=True):
                if failure is not None:
                    raise failure
        each = zip(all_addressed, expected, strict=True)
        home = self._open.home
        return [Ticket(a.entry.command_id, a.session_id, answer, timeout, home) for a, answer in each]

    async def execute(
        self,
        command: Command[Result],
        *,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        wait: bool = False,
    ) -> Result:
        """Have a command applied and return its result: for most the session, as stored when it is read.

        The arguments are those of `send`. Queries are answered from the repository at once; they see every command
        whose ticket or result was awaited.

        Raises:
            Rejected: it was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            SessionGone: it was applied; before the result was read the session was deleted, or a failover came.
            CommandTimeout: no answer came in time; it may still be applied.
            Overloaded: too many commands wait there already.
            Unavailable: it is not known whether it was queued, or it was applied and the result could not be read.

        """
        if isinstance(command, QUERIES):
            return cast("Result", await self._query(command))
        self._open.check()
        addressed = self._addressing.address(command, command_id, wants_place=gives_session(command))
        ticket = await self._sent(addressed, timeout, wait=wait, own_id=command_id is not None)
        return cast("Result", await self._results.of(command, addressed.entry, await ticket))

    async def dispatch(
        self,
        command: Command[Any],
        *,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        wait: bool = False,
    ) -> CommandResult:
        """Execute a command and return the spec's `CommandResult`; only a rejection becomes one, the rest is raised."""
        try:
            data = await self.execute(command, command_id=command_id, timeout=timeout, wait=wait)
            return CommandResult(success=True, data=data)
        except Rejected as error:
            return CommandResult(success=False, error=str(error))

    async def verify(self, session_id: str) -> Verification:
        """Compare a stored session with the fold of its events, as far as retention has kept them.

        Reads all events that the session's partition keeps, once or, where the session changes meanwhile, a few times.

        Raises:
            InvalidCommand: this cannot be the id of a session.
            SessionNotFound: there is no such session.
            Unavailable: the server does not answer, or the session's last changes are not safe yet.

        """
        check_session_id(session_id)
        return await Verifier(self._open.reader, self._open.events, self._open.partitions).verify(session_id)

    async def aclose(self) -> None:
        """Close the client and its subscriptions; queued commands outlive it. Every later call raises `Unavailable`.

        Members of durable subscriptions are stopped first; called by a handler, it does not wait for that one's member.

        Raises:
            OpenedElsewhere: this is not its event loop; nothing is closed.

        """
        self._open.home.check()
        # While the client is open, for handlers may need it for what they have in hand; then those that came meanwhile.
        await self._end_members()
        await self._open.aclose()
        await self._end_members()
        await self._end_subscriptions()
        await self._outbox.aclose()
        await self._replies.aclose()
        await self._resources.aclose()

    async def _sent(self, addressed: Addressed, timeout: float, *, wait: bool, own_id: bool) -> Ticket:
        await self._replies.open(addressed.partition)
        with self._replies.expecting([addressed], timeout, own_ids=own_id) as (expected,):
            await self._queued(addressed.partition, [addressed.entry], timeout, wait=wait)
        return Ticket(addressed.entry.command_id, addressed.session_id, expected, timeout, self._open.home)

    async def _queued(self, partition: int, entries: Sequence[CommandEntry], timeout: float, *, wait: bool) -> None:
        try:
            await self._outbox.put(partition, entries, timeout, wait=wait)
        except Overloaded:
            raise
        except Unavailable as error:
            raise Unavailable(str(error), entries[0].command_id) from error

    async def _query(self, query: GetSession | ListSessions) -> Any:  # noqa: ANN401 - the query's own result
        encode_command(query, self._settings.max_message_bytes)
        if isinstance(query, ListSessions):
            return await page(self._open.reader, self._open.partitions, query)
        return await get_session(self._open.reader, query)
