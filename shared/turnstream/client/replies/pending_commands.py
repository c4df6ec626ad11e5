"""The commands of a client that wait for replies, and which of them to resend after a lost connection (design §4, §10).

Replies may be lost with a connection. So after each new connection the client resends all unanswered commands, with
their ids and in order. A worker applies each command once, and replies again with its recorded outcome.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

import msgspec

from turnstream.application.commands.decoder import payload_hash
from turnstream.client.replies.diagnosis import Diagnosis
from turnstream.client.sending.requests import AddressedCommand, Deadline
from turnstream.codec.records import error_of
from turnstream.errors import CommandParked, CommandTimeout, DuplicateMismatch, TurnstreamError, Unavailable
from turnstream.ports import CommandEntry, Reply

Answer = Reply | TurnstreamError

DIAGNOSIS_LEAD_S = 1.0
"""Seconds before the end of a ticket's time at which it is looked for the reason why no answer comes."""

REPLY_LOST = "There was no connection for so long that the answer cannot be had any more"


class PendingReply(msgspec.Struct):
    """A reply that has not arrived. Several callers may wait for it, and one that stops waiting affects no other.

    A future with a time-out would wake its callers two iterations of the event loop later.
    """

    answer: Answer | None = None
    waiting: list[asyncio.Future[None]] = []

    def resolve(self, answer: Answer) -> None:
        """Give the answer to all callers that wait, unless there is one."""
        if self.answer is None:
            self.answer = answer
            for waiter in self.waiting:
                _wake(waiter)

    async def within(self, seconds: float) -> Answer | None:
        """Return the answer; `None` if it has not come in time."""
        if self.answer is None:
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            self.waiting.append(waiter)
            timer = loop.call_later(seconds, _wake, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self.waiting.remove(waiter)
        return self.answer


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class AwaitedReply:
    """The reply to a queued command, with the diagnosis if it does not come."""

    def __init__(self, addressed: AddressedCommand, pending: PendingReply, diagnosis: Diagnosis) -> None:
        """Wait for the reply to a command."""
        self.addressed = addressed
        self._pending = pending
        self._diagnosis = diagnosis

    @property
    def is_there(self) -> bool:
        """Whether it has come."""
        return self._pending.answer is not None

    async def before(self, deadline: Deadline) -> Reply:
        """Wait for the reply that the command was applied, in the event loop of its client.

        Raises:
            Rejected: the command was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            CommandTimeout: there was no reply before the deadline.
            Unavailable: the client was closed, or it had no connection for so long that it could not ask again.

        """
        answer = self._pending.answer or await self._answer(deadline)
        if isinstance(answer, TurnstreamError):
            raise answer
        if answer.error:
            raise error_of(answer.error)
        if answer.status == "parked":
            raise CommandParked(self.addressed.session_id, self.addressed.entry.command_id)
        return answer

    async def _answer(self, deadline: Deadline) -> Answer:
        """Wait for the answer; shortly before the deadline, begin to look for the reason why there is none."""
        partition, left = self.addressed.partition, deadline.left
        answer = await self._pending.within(left - min(DIAGNOSIS_LEAD_S, left / 2))
        if answer is None:
            self._diagnosis.begin(partition)
            answer = await self._pending.within(deadline.left)
        if answer is None:
            command_id = self.addressed.entry.command_id
            raise CommandTimeout(command_id, deadline.passed, self._diagnosis.reason(partition))
        return answer


class PendingCommand(msgspec.Struct):
    """A command that has no reply yet.

    `sent_at` is when it was first sent, in seconds of the event loop's clock, and `connection` the number of its
    partition's reply connection at that time, or of the last one after which it was resent. `timeout` is the time-out
    of the call in seconds, `sends` the number of sends that have not failed, and `overdue_resent_at` the time when it
    was resent because there was no reply, 0 if it was not.
    """

    reply: PendingReply
    command: AddressedCommand
    sent_at: float
    timeout: float
    connection: int
    queued: bool = False
    sends: int = 0
    overdue_resent_at: float = 0.0

    def is_same(self, command: AddressedCommand) -> bool:
        """Return whether another command is this one, sent again."""
        own, other = self.command.entry, command.entry
        return own is other or (own.type, own.data) == (other.type, other.data)

    def is_answered_by(self, reply: Reply) -> bool:
        """Return whether a reply is for this command, and not for an earlier one with the same id chosen by the caller.

        A command that was sent twice is answered twice, and the second reply may come after the call has ended.
        """
        return not self.command.own_id or reply.payload_hash in {"", payload_hash(self.command.entry)}


class PendingCommands:
    """The commands of a client that have no reply yet, in the order in which they were first sent.

    For each partition it knows the number of the reply connection, and whether that is lost. A command that was
    registered before the present connection may have lost its reply.
    """

    def __init__(self, partitions: int, resend_window: float) -> None:
        """Start without commands; workers recognise a resend for `resend_window` seconds."""
        self.resend_window = resend_window
        self.connections = [0] * partitions
        self.disconnected: set[int] = set()
        self._commands: dict[str, PendingCommand] = {}

    def register(
        self, commands: Sequence[AddressedCommand], timeout: float = 0.0
    ) -> AbstractContextManager[list[PendingReply]]:
        """Register commands as waiting for replies, for at least `timeout` seconds; an error in the block removes them.

        A command that is sent again shares the reply of the first send. It stays until all sends of it have failed.

        Raises:
            DuplicateMismatch: another command of this client has the id and no reply yet.

        """
        now, known = asyncio.get_running_loop().time(), self._commands
        fresh = {
            command.entry.command_id: PendingCommand(
                PendingReply(), command, now, timeout, self.connections[command.partition]
            )
            for command in commands
            if command.entry.command_id not in known
        }
        sent = [fresh.get(each.entry.command_id) or known[each.entry.command_id] for each in commands]
        for command, pending in zip(commands, sent, strict=True):
            if pending.command is not command and not pending.is_same(command):
                raise DuplicateMismatch(command.entry.command_id)
        known.update(fresh)
        for pending in sent:
            pending.sends += 1
        return _Registration(self, sent)

    def unregister(self, pending: PendingCommand) -> None:
        """Undo the registration of one failed send."""
        pending.sends -= 1
        command_id = pending.command.entry.command_id
        if not pending.sends and self._commands.get(command_id) is pending:
            del self._commands[command_id]

    def mark_queued(self, partition: int, entries: Sequence[CommandEntry]) -> list[CommandEntry]:
        """Mark commands as queued; return those to resend, because the connection for their replies was lost since."""
        missed: list[CommandEntry] = []
        for entry in entries:
            pending = self._commands.get(entry.command_id)
            if pending:
                pending.queued = True
                if pending.connection != self.connections[partition] and partition not in self.disconnected:
                    pending.connection = self.connections[partition]
                    missed.append(entry)
        return missed

    def resolve(self, reply: Reply) -> None:
        """Give a reply to the callers that wait for it."""
        pending = self._commands.get(reply.command_id)
        if pending and pending.is_answered_by(reply):
            del self._commands[reply.command_id]
            pending.reply.resolve(reply)

    def fail(self, partitions: Collection[int], reason: Unavailable) -> None:
        """Fail the callers that wait for replies from these partitions."""
        for pending in list(self._commands.values()):
            if pending.command.partition in partitions:
                self._remove(pending, reason)

    def disconnect(self, partitions: Iterable[int]) -> None:
        """Note that the reply connection of partitions is lost."""
        for partition in partitions:
            if partition not in self.disconnected:
                self.connections[partition] += 1
                self.disconnected.add(partition)

    def connect(self, partitions: Collection[int]) -> dict[int, list[CommandEntry]]:
        """Note that partitions have a new reply connection; return the queued commands to resend, by partition.

        Commands that workers recognise no longer fail: a resend could apply them a second time.
        """
        self.disconnected.difference_update(partitions)
        now = asyncio.get_running_loop().time()
        resends: dict[int, list[CommandEntry]] = {partition: [] for partition in partitions}
        for pending in list(self._commands.values()):
            partition = pending.command.partition
            if partition not in resends or not pending.queued:
                continue
            if now - pending.sent_at < self.resend_window:
                pending.connection = self.connections[partition]
                resends[partition].append(pending.command.entry)
            else:
                self._remove(pending, Unavailable(REPLY_LOST))
        return resends

    def resendable(self, partition: int) -> list[CommandEntry]:
        """Return the queued commands of a partition that workers still recognise."""
        oldest = asyncio.get_running_loop().time() - self.resend_window
        return [
            pending.command.entry
            for pending in self._commands.values()
            if pending.command.partition == partition and pending.queued and pending.sent_at > oldest
        ]

    def __iter__(self) -> Iterator[PendingCommand]:
        """Iterate over the commands, the oldest first."""
        return iter(self._commands.values())

    def forget(self, pending: PendingCommand) -> None:
        """Remove a command whose reply no call waits for."""
        del self._commands[pending.command.entry.command_id]

    def _remove(self, pending: PendingCommand, reason: Unavailable) -> None:
        self.forget(pending)
        pending.reply.resolve(reason)


class _Registration(msgspec.Struct):
    """Commands that are being sent in a `with` block; a generator would take longer than all else for one command."""

    table: PendingCommands
    commands: Sequence[PendingCommand]

    def __enter__(self) -> list[PendingReply]:
        return [pending.reply for pending in self.commands]

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            for pending in self.commands:
                self.table.unregister(pending)
