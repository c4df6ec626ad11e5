"""`Turnstream`: the one object that producers and subscribers hold (design §10)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from turnstream.application.answers import get_session
from turnstream.application.listing import page
from turnstream.application.verifying import Verification, Verifier
from turnstream.client import opening
from turnstream.client.addressing import Addressed, Addressing, Trace
from turnstream.client.connecting import Connecting
from turnstream.client.deadline import Deadline
from turnstream.client.diagnosis import Diagnosis
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
from turnstream.errors import CommandTimeout, KeyUnusable, Overloaded, Rejected, ServerFull, Unavailable
from turnstream.messages import new_id
from turnstream.ports import Backend, CommandEntry
from turnstream.settings import Settings

YIELD_EVERY = 500
"""Commands of a `send_many` that are encoded before others in the event loop get their turn."""


class Sending(msgspec.Struct, frozen=True, gc=False):
    """How commands are sent: until when, and the seconds that were given for that."""

    deadline: Deadline
    timeout: float
    wait: bool = False
    own_ids: bool = False


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
        self._diagnosis = Diagnosis(backend.ownership)
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
        timeout: float | None = None,
        wait: bool = False,
        trace: Trace | None = None,
        apply_within: float | None = None,
    ) -> Ticket:
        """Queue a command; on return it is durable, and will be applied also if this client goes away.

        Args:
            command: what is to be done.
            command_id: an id of your own for a resend that must not be applied twice; by default a new one.
            timeout: seconds in which it is to be queued, by default the setting `timeout`; and seconds that the ticket
                then waits, each time that it is awaited, for the command to be applied.
            wait: where too many commands wait already, wait for room up to `timeout` seconds.
            trace: what its events should carry.
            apply_within: seconds from now, by the server's clock, after which the command is not applied any more but
                rejected with `CommandExpired`; by default it waits as long as it takes.

        Raises:
            InvalidCommand: a worker would refuse it; names the field. Nothing was sent.
            DuplicateMismatch: this client waits for another command under this id. Nothing was sent.
            Overloaded: too many commands wait there already.
            Unavailable: it is not known whether it was queued.

        """
        self._open.check()
        timeout = self._settings.timeout if timeout is None else timeout
        addressed = self._addressing.address(command, command_id, trace, apply_within=apply_within)
        sending = Sending(Deadline.after(timeout), timeout, wait=wait, own_ids=command_id is not None)
        return await self._sent(addressed, sending)

    async def send_many(
        self,
        commands: Iterable[Command[Any]],
        *,
        timeout: float | None = None,
        wait: bool = False,
        apply_within: float | None = None,
    ) -> list[Ticket]:
        """Queue commands, each session's in the order given; on return all are durable.

        `timeout`, `wait` and `apply_within` are those of `send`, the same for all.

        Raises:
            InvalidCommand: one of them would be refused; nothing was sent.
            Overloaded: too many commands wait there already; some may be queued.
            Unavailable: it is not known which of them were queued.

        """
        self._open.check()
        timeout = self._settings.timeout if timeout is None else timeout
        sending = Sending(Deadline.after(timeout), timeout, wait=wait)
        all_addressed: list[Addressed] = []
        lanes: dict[int, list[CommandEntry]] = {}
        for command in commands:
            addressed = self._addressing.address(command, apply_within=apply_within)
            all_addressed.append(addressed)
            lanes.setdefault(addressed.partition, []).append(addressed.entry)
            if len(all_addressed) % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                self._open.check()
        for partition, entries in lanes.items():
            await self._opened(partition, entries, sending.deadline)
        with self._replies.expecting(all_addressed, timeout) as expected:
            queued = [self._queued(partition, entries, sending) for partition, entries in lanes.items()]
            for failure in await asyncio.gather(*queued, return_exceptions=True):
                if failure is not None:
                    raise failure
        each = zip(all_addressed, expected, strict=True)
        return [Ticket(addressed, answer, timeout, self._diagnosis, self._open.home) for addressed, answer in each]

    async def execute(
        self,
        command: Command[Result],
        *,
        command_id: str | None = None,
        timeout: float | None = None,
        wait: bool = False,
        apply_within: float | None = None,
    ) -> Result:
        """Have a command applied and return its result: for most the session, as stored when it is read.

        The arguments are those of `send`, but for `timeout`: the seconds in which all of that is to be done. Queries
        are answered from the repository at once; they see every command whose ticket or result was awaited.

        Raises:
            Rejected: it was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            SessionGone: it was applied; before the result was read the session was deleted, or a failover came.
            CommandTimeout: no answer came in time; it may still be applied.
            Overloaded: too many commands wait there already.
            Unavailable: it is not known whether it was queued, or it was applied and the result could not be read.

        """
        timeout = self._settings.timeout if timeout is None else timeout
        deadline = Deadline.after(timeout)
        if isinstance(command, QUERIES):
            return cast("Result", await self._query(command, deadline))
        self._open.check()
        addressed = self._addressing.address(
            command, command_id, wants_place=gives_session(command), apply_within=apply_within
        )
        ticket = await self._sent(addressed, Sending(deadline, timeout, wait=wait, own_ids=command_id is not None))
        applied = await ticket.applied(deadline)
        return cast("Result", await self._results.of(command, addressed.entry, applied, deadline))

    async def dispatch(
        self,
        command: Command[Any],
        *,
        command_id: str | None = None,
        timeout: float | None = None,
        wait: bool = False,
        apply_within: float | None = None,
    ) -> CommandResult:
        """Execute a command and return the spec's `CommandResult`; only a rejection becomes one, the rest is raised."""
        try:
            data = await self.execute(
                command, command_id=command_id, timeout=timeout, wait=wait, apply_within=apply_within
            )
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
        await self._diagnosis.aclose()
        await self._outbox.aclose()
        await self._replies.aclose()
        await self._resources.aclose()

    async def _sent(self, addressed: Addressed, sending: Sending) -> Ticket:
        await self._opened(addressed.partition, [addressed.entry], sending.deadline)
        with self._replies.expecting([addressed], sending.timeout, own_ids=sending.own_ids) as (expected,):
            await self._queued(addressed.partition, [addressed.entry], sending)
        return Ticket(addressed, expected, sending.timeout, self._diagnosis, self._open.home)

    async def _opened(self, partition: int, entries: Sequence[CommandEntry], deadline: Deadline) -> None:
        """Have the way back open before anything is sent."""
        try:
            await self._replies.open(partition, deadline.at)
        except Unavailable as error:
            if deadline.left:
                raise
            reason = f"{str(error).rstrip('.')}."
            raise CommandTimeout(entries[0].command_id, deadline.passed, reason, sent=False) from error

    async def _queued(self, partition: int, entries: Sequence[CommandEntry], sending: Sending) -> None:
        deadline = sending.deadline
        try:
            await self._outbox.put(partition, entries, deadline.left, wait=sending.wait, until=deadline.at)
        except Overloaded:
            raise
        except ServerFull as error:
            raise ServerFull(str(error), entries[0].command_id) from error
        except KeyUnusable as error:
            # A failure of its own: the other callers whose commands it concerns have theirs.
            own = copy(error)
            own.command_id = entries[0].command_id
            raise own from error
        except Unavailable as error:
            command_id = entries[0].command_id
            if deadline.left:
                raise Unavailable(str(error), command_id) from error
            reason = f"It is not known whether it was queued: {str(error).rstrip('.')}."
            raise CommandTimeout(command_id, deadline.passed, reason) from error

    async def _query(self, query: GetSession | ListSessions, deadline: Deadline) -> Any:  # noqa: ANN401 - its own result
        encode_command(query, self._settings.max_message_bytes)
        try:
            async with asyncio.timeout_at(deadline.at):
                if isinstance(query, ListSessions):
                    return await page(self._open.reader, self._open.partitions, query)
                return await get_session(self._open.reader, query)
        except TimeoutError:
            raise Unavailable(f"The server did not answer within {deadline.passed:g} s") from None
