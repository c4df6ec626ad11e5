"""The router of replies: it resolves tickets, whatever happens to the connections (design §4, §10).

Replies may be lost with a connection. So after each new connection the client resends all unanswered commands, with
their ids and in order. A worker applies each command once, and replies again with its recorded outcome. Commands that
stay unanswered without a lost connection are resent as well (`resender`).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

import msgspec

from turnstream.client.replies.listener import CLOSED, ReplyListener
from turnstream.client.replies.resender import UnansweredResender
from turnstream.client.replies.ticket import Expected, PendingCommand
from turnstream.client.sending.outbox import AddressedCommand, Outbox
from turnstream.codec.records import decode_loss, decode_replies
from turnstream.errors import DuplicateMismatch, Unavailable
from turnstream.logging import get_logger
from turnstream.ports import Channels, CommandEntry

log = get_logger(__name__)


LOSS = b"{"
"""The start of a payload that announces lost commands; replies are an array."""


class _PendingRegistration(msgspec.Struct):
    """Commands that are on their way while a `with` lasts; a generator would take longer than all else for one."""

    commands: Sequence[PendingCommand]
    let_go: Callable[[PendingCommand], None]

    def __enter__(self) -> list[Expected]:
        return [pending.expected for pending in self.commands]

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            for pending in self.commands:
                self.let_go(pending)


class ReplyRouter:
    """Listens on the client's reply channels, from the first command on, and hands each reply to its ticket.

    In a cluster the loss of a shard concerns only its partitions.
    """

    def __init__(self, channels: Channels, partitions: int, client_id: str, outbox: Outbox) -> None:
        """Listen on one channel for each partition; commands are resent through the outbox."""
        self._channels = channels
        self.channels = [channels.reply_channel(partition, client_id) for partition in range(partitions)]
        self._losses = [channels.loss_channel(partition) for partition in range(partitions)]
        self._partitions = {name: partition for partition, name in enumerate(self.channels)}
        self._outbox = outbox
        self._pending: dict[str, PendingCommand] = {}
        self._reminder = UnansweredResender(self._pending, outbox)
        self._reminding: asyncio.Task[None] | None = None
        self._listeners: dict[int, ReplyListener] = {}
        self._connections = [0] * partitions
        self._deaf: set[int] = set()
        self._closed = False
        outbox.tell(self.queued)

    async def open(self, partition: int, until: float | None = None) -> None:
        """Listen for replies from a partition, or try to: before that nothing is published to it.

        Raises:
            ConfigurationError: the server does not let this user listen.
            Unavailable: it was closed, or that took until a time of the event loop's clock.

        """
        self._check_open()
        while (listener := self._listeners.get(partition)) is None or not listener.tried.is_set():
            if listener is None:
                self.listen([name for name, number in self._partitions.items() if number not in self._listeners])
                listener = self._listeners[partition]
            try:
                async with asyncio.timeout_at(until):
                    await listener.tried.wait()
            except TimeoutError:
                raise Unavailable("There is no connection for replies yet") from None
            if listener.failure:
                raise listener.failure
            self._check_open()
        if self._reminding is None:
            self._reminding = asyncio.create_task(self._reminder.run(), name="unanswered")

    def expecting(
        self, commands: Sequence[AddressedCommand], timeout: float = 0.0
    ) -> AbstractContextManager[list[Expected]]:
        """Register commands as waiting for replies inside the block; an error in it unregisters them.

        A command that is sent again has the answer of the first time. It stays until all sends of it have failed, for
        one of them is queued, or may still be. Answers are waited for `timeout` seconds, at least.

        Raises:
            DuplicateMismatch: another command of this client is under way under the id.

        """
        now = asyncio.get_running_loop().time()
        fresh = {
            command.entry.command_id: PendingCommand(
                Expected(), command, now, timeout, self._connections[command.partition]
            )
            for command in commands
            if command.entry.command_id not in self._pending
        }
        sent = [fresh.get(c.entry.command_id) or self._pending[c.entry.command_id] for c in commands]
        for command, pending in zip(commands, sent, strict=True):
            if pending.command is not command and not pending.is_for(command):
                raise DuplicateMismatch(command.entry.command_id)
        self._pending.update(fresh)
        for pending in sent:
            pending.sends += 1
        return _PendingRegistration(sent, self._let_go)

    def queued(self, partition: int, entries: Sequence[CommandEntry]) -> None:
        """Note that commands are queued; those whose replies may have been missed are resent immediately.

        The outbox calls this before it publishes anything else, so resent commands keep their order after a new
        connection.
        """
        lost: list[CommandEntry] = []
        for entry in entries:
            pending = self._pending.get(entry.command_id)
            if pending:
                pending.queued = True
                if pending.connection != self._connections[partition] and partition not in self._deaf:
                    pending.connection = self._connections[partition]
                    lost.append(entry)
        if lost:
            again = self._outbox.put(partition, lost, self._outbox.resend_window, wait=True)
            again.add_done_callback(_heard)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The client was closed before the command was sent")

    def _let_go(self, pending: PendingCommand) -> None:
        """Expect no answer because of a send that failed."""
        pending.sends -= 1
        command_id = pending.command.entry.command_id
        if not pending.sends and self._pending.get(command_id) is pending:
            del self._pending[command_id]

    async def aclose(self) -> None:
        """Stop listening for good; calls that still wait get `Unavailable`."""
        self._closed = True
        if self._reminding:
            self._reminding.cancel()
        await asyncio.gather(*(listener.aclose() for listener in set(self._listeners.values())))
        self._settle(set(self._partitions.values()), Unavailable(CLOSED))

    def listen(self, channels: Sequence[str]) -> None:
        """Have a listener on channels, unless it was closed."""
        if self._closed:
            return
        listener = ReplyListener(self._channels, channels, self)
        self._listeners.update((self._partitions[name], listener) for name in channels)

    def with_losses(self, channels: Sequence[str]) -> list[str]:
        """Return reply channels, and the channels of the same partitions that announce lost commands."""
        return [*channels, *(self._losses[self._partitions[name]] for name in channels)]

    def lost(self, channels: Sequence[str], why: str) -> None:
        """Hold what is sent from now on: it must not overtake what will be sent again."""
        partitions = {self._partitions[name] for name in channels}
        for partition in partitions - self._deaf:
            self._connections[partition] += 1
        self._deaf |= partitions
        self._outbox.hold(partitions, why)

    def found(self, channels: Sequence[str]) -> None:
        """Ask for what the connection before may have lost."""
        partitions = {self._partitions[name] for name in channels}
        self._deaf -= partitions
        self._outbox.resume(self._unanswered(partitions))

    def ended(self, channels: Sequence[str], reason: str) -> None:
        """Fail the calls that wait; the next command opens the connection again."""
        partitions = {self._partitions[name] for name in channels}
        for partition in partitions:
            del self._listeners[partition]
        self._deaf -= partitions
        self._settle(partitions, Unavailable(reason))
        self._outbox.resume(dict.fromkeys(partitions, ()))

    def _ask_again(self, partition: int) -> None:
        """Send again what is unanswered, as far as workers still recognise it: it may be lost."""
        if partition in self._deaf or partition not in range(len(self.channels)):
            # It is sent again anyway when there is a connection.
            return
        entries = [pending.command.entry for pending in self._recent(partition)]
        if entries:
            log.warning("commands may be lost, they are sent again", partition=partition, commands=len(entries))
            self._outbox.resume({partition: entries})

    def _recent(self, partition: int) -> list[PendingCommand]:
        oldest = asyncio.get_running_loop().time() - self._outbox.resend_window
        pending = (pending for pending in self._pending.values() if pending.command.partition == partition)
        return [each for each in pending if each.queued and each.sent_at > oldest]

    def _unanswered(self, partitions: Iterable[int]) -> dict[int, list[CommandEntry]]:
        """Return what is queued and has no answer, by partition, as far as it can still be told from a new command."""
        now = asyncio.get_running_loop().time()
        lanes: dict[int, list[CommandEntry]] = {partition: [] for partition in partitions}
        for pending in list(self._pending.values()):
            lane = lanes.get(pending.command.partition)
            if lane is None or not pending.queued:
                continue
            if now - pending.sent_at < self._outbox.resend_window:
                pending.connection = self._connections[pending.command.partition]
                lane.append(pending.command.entry)
            else:
                del self._pending[pending.command.entry.command_id]
                pending.expected.settle(
                    Unavailable("There was no connection for so long that the answer cannot be had any more")
                )
        return lanes

    def _settle(self, partitions: set[int], reason: Unavailable) -> None:
        for command_id, pending in list(self._pending.items()):
            if pending.command.partition in partitions:
                del self._pending[command_id]
                pending.expected.settle(reason)

    def receive(self, payload: bytes) -> None:
        """Resolve the tickets of replies, or resend unanswered commands after an announcement of lost ones."""
        try:
            if payload.startswith(LOSS):
                self._ask_again(decode_loss(payload).partition)
                return
            replies = decode_replies(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("reply cannot be read", size=len(payload))
            return
        for reply in replies:
            pending = self._pending.get(reply.command_id)
            if pending and pending.is_meant_by(reply):
                del self._pending[reply.command_id]
                pending.expected.settle(reply)


def _heard(future: asyncio.Future[None]) -> None:
    """Retrieve a failure that no call waits for, so that asyncio does not report it as never retrieved."""
    if not future.cancelled():
        future.exception()
