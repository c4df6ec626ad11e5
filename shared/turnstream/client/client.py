"""`Turnstream`: the one object that producers and subscribers hold (design §10)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from turnstream.application.queries.query_handler import get_session
from turnstream.application.queries.session_list import page
from turnstream.application.queries.verifier import Verification, Verifier
from turnstream.client import lifecycle
from turnstream.client.admin.admin import Admin
from turnstream.client.replies.diagnosis import Diagnosis
from turnstream.client.replies.pending_commands import AwaitedReply
from turnstream.client.replies.ticket import Ticket
from turnstream.client.results import CommandResult, Results
from turnstream.client.sending.command_gateway import CommandGateway, SendOptions
from turnstream.client.sending.requests import AddressedCommand, Deadline, EnvelopeBuilder, Trace, WhenFull
from turnstream.client.sessions import Sessions
from turnstream.client.subscriber import Subscriber
from turnstream.codec.envelope import check_session_id, encode_command
from turnstream.domain.commands import QUERIES, Command, GetSession, ListSessions, Result
from turnstream.errors import InvalidCommand, Rejected, Unavailable
from turnstream.messages import new_id
from turnstream.pending import PendingConnection
from turnstream.ports import Backend
from turnstream.settings import Settings

WHEN_FULL = get_args(WhenFull)

YIELD_EVERY = 500
"""Commands of a `send_many` that are encoded before others in the event loop get their turn."""


class Turnstream(Subscriber):
    """A client of a deployment. Make one by `connect`, `embedded` or `in_memory`; they run the same code.

    `ts.sessions` reads the stored sessions, and `ts.admin` is for operators. Every call raises `OpenedElsewhere` in
    another event loop than the one that opened it, and after a fork.
    """

    def __init__(self, backend: Backend, settings: Settings, resources: AsyncExitStack) -> None:
        """Use a deployment; `resources` are closed with the client."""
        super().__init__(backend, settings)
        self._resources = resources
        self._gateway = CommandGateway(
            backend.channels,
            backend.queue,
            backend.partitions,
            new_id(),
            settings.deduplication_window,
            settings.max_backlog,
        )
        self._envelopes = EnvelopeBuilder(backend.partitions, settings.max_message_bytes, self._gateway.channels)
        self._results = Results(self._open.reader)
        self._diagnosis = Diagnosis(backend.ownership)
        self.sessions = Sessions(self, self._open.reader, backend.partitions)
        self.admin = Admin(self, self._open)

    @classmethod
    def connect(cls, url: str | None = None, *, settings: Settings | None = None) -> "PendingConnection[Turnstream]":
        """Connect to a server where workers run.

        Args:
            url: one server, as `redis://user:password@host:6379/0`, `rediss://…` (encrypted) or `unix:///path`; a
                cluster, as `redis+cluster://host:port,…`; or a service of Sentinels, as
                `redis+sentinel://host:port,…/service` (both with `rediss+…` if encrypted); by default the settings'.
            settings: by default those of the environment (`TURNSTREAM_…`).

        Raises:
            Unavailable: no server answers there.
            ConfigurationError: the server or the deployment there does not fit.

        """
        return PendingConnection(partial(cls._opened_by, partial(lifecycle.connected, url, settings)))

    @classmethod
    def embedded(
        cls,
        directory: str | Path | None = None,
        *,
        settings: Settings | None = None,
    ) -> "PendingConnection[Turnstream]":
        """Start an embedded server, with a worker in this event loop (needs `turnstream[embedded]`).

        Args:
            directory: where its data is kept; by default it is thrown away.
            settings: by default those of the environment.

        Raises:
            ConfigurationError: there is no server to start, or the directory is in use.

        """
        return PendingConnection(partial(cls._opened_by, partial(lifecycle.embedded, directory, settings)))

    @classmethod
    def in_memory(cls, *, settings: Settings | None = None) -> "PendingConnection[Turnstream]":
        """Keep everything in this process, with a worker in this event loop; for tests and trials."""
        return PendingConnection(partial(cls._opened_by, partial(lifecycle.in_memory, settings)))

    @classmethod
    async def _opened_by(cls, opens: Callable[[], Awaitable[lifecycle.Opened]]) -> "Turnstream":
        return cls(*await opens())

    async def send(
        self,
        command: Command[Any],
        *,
        command_id: str | None = None,
        timeout: float | None = None,
        when_full: WhenFull = "raise",
        trace: Trace | None = None,
        apply_within: float | None = None,
    ) -> Ticket:
        """Queue a command; on return it is durable, and will be applied also if this client goes away.

        Args:
            command: the command.
            command_id: your own id, for a resend that must not be applied twice; by default a new one.
            timeout: seconds in which it is to be queued, by default the setting `timeout`; and seconds that the ticket
                then waits, each time that it is awaited, for the command to be applied.
            when_full: what happens if too many commands wait in the partition: `"raise"` raises `Overloaded` at once,
                `"wait"` waits for room, up to `timeout` seconds.
            trace: the ids that its events carry.
            apply_within: seconds from now, by the server's clock, after which the command is not applied any more but
                rejected with `CommandExpired`; by default it waits as long as it takes.

        Raises:
            InvalidCommand: a worker would refuse it; names the field. Nothing was sent.
            DuplicateMismatch: this client waits for another command under this id. Nothing was sent.
            Overloaded: too many commands wait there already.
            Unavailable: it is not known whether it was queued.

        """
        self._open.check()
        options = self._options(timeout, when_full)
        addressed = self._envelopes.address(command, command_id, trace, apply_within=apply_within)
        return self._ticket(await self._sent(addressed, options), options)

    async def send_many(
        self,
        commands: Iterable[Command[Any] | tuple[Command[Any], str]],
        *,
        timeout: float | None = None,
        when_full: WhenFull = "raise",
        trace: Trace | None = None,
        apply_within: float | None = None,
    ) -> list[Ticket]:
        """Queue commands, each session's in the order given; on return all are durable.

        Args:
            commands: commands, or pairs of a command and your own id for it, as for `send`.
            timeout: as for `send`, for all of them together.
            when_full: as for `send`.
            trace: as for `send`, the same for all.
            apply_within: as for `send`, the same for all.

        Raises:
            InvalidCommand: one of them would be refused; nothing was sent.
            DuplicateMismatch: two of them have the same id, or this client waits for another command under one of the
                ids. Nothing was sent.
            Overloaded: too many commands wait there already; some may be queued.
            Unavailable: it is not known which of them were queued.

        """
        self._open.check()
        options = self._options(timeout, when_full)
        all_addressed: list[AddressedCommand] = []
        for each in commands:
            command, command_id = each if isinstance(each, tuple) else (each, None)
            addressed = self._envelopes.address(command, command_id, trace, apply_within=apply_within)
            all_addressed.append(addressed)
            if len(all_addressed) % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                self._open.check()
        replies = await self._gateway.send_many(all_addressed, options)
        pairs = zip(all_addressed, replies, strict=True)
        return [self._ticket(AwaitedReply(*each, self._diagnosis), options) for each in pairs]

    async def execute(
        self,
        command: Command[Result],
        *,
        command_id: str | None = None,
        timeout: float | None = None,
        when_full: WhenFull = "raise",
        trace: Trace | None = None,
        apply_within: float | None = None,
    ) -> Result:
        """Have a command applied and return its result: for most the session, as stored when it is read.

        The arguments are those of `send`, except `timeout`: the seconds for all of this together. Queries are answered
        from the repository at once, and use only `timeout`; they see every command whose ticket or result was awaited.

        Raises:
            Rejected: it was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            SessionGone: it was applied; before the result was read the session was deleted, or a failover came.
            CommandTimeout: no answer came in time; it may still be applied.
            Overloaded: too many commands wait there already.
            Unavailable: it is not known whether it was queued, or it was applied and the result could not be read.

        """
        options = self._options(timeout, when_full)
        if isinstance(command, QUERIES):
            return cast("Result", await self._query(command, options.deadline))
        self._open.check()
        addressed = self._envelopes.address(command, command_id, trace, wants_session=True, apply_within=apply_within)
        reply = await (await self._sent(addressed, options)).before(options.deadline)
        return cast("Result", await self._results.of(command, addressed, reply, options.deadline))

    async def dispatch(
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
        try:
            data = await self.execute(
                command,
                command_id=command_id,
                timeout=timeout,
                when_full=when_full,
                trace=trace,
                apply_within=apply_within,
            )
            return CommandResult(success=True, data=data)
        except Rejected as error:
            return CommandResult(success=False, error=str(error))

    async def verify(self, session_id: str) -> Verification:
        """Compare a stored session with the fold of its events, as far as retention has kept them.

        Reads all events that the partition keeps, once, or a few times if the session changes during the read.

        Raises:
            InvalidCommand: this cannot be the id of a session.
            SessionNotFound: there is no such session.
            Unavailable: the server does not answer, or the session's last changes are not safe yet.

        """
        check_session_id(session_id)
        return await Verifier(self._open.reader, self._open.events, self._open.partitions).verify(session_id)

    async def aclose(self) -> None:
        """Close the client and its subscriptions; queued commands outlive it. Every later call raises `Unavailable`.

        Consumers are stopped first; called by a handler, it does not wait for the consumer of that handler.

        Raises:
            OpenedElsewhere: this is not its event loop; nothing is closed.

        """
        self._open.home.check()
        # First while the client is open: handlers may need it for their work in flight. Then those that started since.
        await self._end_consumers()
        await self._open.aclose()
        await self._end_consumers()
        await self._end_subscriptions()
        await self._diagnosis.aclose()
        await self._gateway.aclose()
        await self._resources.aclose()

    def _options(self, timeout: float | None, when_full: WhenFull) -> SendOptions:
        if when_full not in WHEN_FULL:
            raise InvalidCommand("when_full", 'Expected "raise" or "wait"')
        timeout = self._settings.timeout if timeout is None else timeout
        return SendOptions(Deadline.after(timeout), timeout, wait=when_full == "wait")

    def _ticket(self, reply: AwaitedReply, options: SendOptions) -> Ticket:
        return Ticket(reply, options.timeout, self._open.home)

    async def _sent(self, addressed: AddressedCommand, options: SendOptions) -> AwaitedReply:
        reply = await self._gateway.send(addressed, options)
        return AwaitedReply(addressed, reply, self._diagnosis)

    async def _query(self, query: GetSession | ListSessions, deadline: Deadline) -> Any:  # noqa: ANN401 - its own result
        encode_command(query, self._settings.max_message_bytes)
        try:
            async with asyncio.timeout_at(deadline.at):
                if isinstance(query, ListSessions):
                    return await page(self._open.reader, self._open.partitions, query)
                return await get_session(self._open.reader, query)
        except TimeoutError:
            raise Unavailable(f"The server did not answer within {deadline.passed:g} s") from None
