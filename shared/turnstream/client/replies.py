"""How replies reach those who wait for them, whatever happens to the connection (design §4, §10).

A lost connection may have taken replies with it. So behind each new one all commands that are still unanswered are sent
again, under their ids and in their order: a worker applies each once, and tells its recorded outcome again. What stays
unanswered without that is asked for once more, too (`reminding`).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

import msgspec

from turnstream.client.addressing import Addressed
from turnstream.client.listener import CLOSED, Listener
from turnstream.client.outbox import Outbox
from turnstream.client.pending import Pending
from turnstream.client.reminding import Reminder
from turnstream.client.tickets import Expected
from turnstream.codec.replies import decode_loss, decode_replies
from turnstream.errors import DuplicateMismatch, Unavailable
from turnstream.ports import Channels, CommandEntry
from turnstream.telemetry import get_logger

log = get_logger(__name__)


LOSS = b"{"
"""How the payload begins that tells of lost commands; replies are an array."""


class _Sends(msgspec.Struct):
    """Commands that are on their way while a `with` lasts; a generator would take longer than all else for one."""

    commands: Sequence[Pending]
    let_go: Callable[[Pending], None]

    def __enter__(self) -> list[Expected]:
        return [pending.expected for pending in self.commands]

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            for pending in self.commands:
                self.let_go(pending)


class Replies:
    """Listens on the client's reply channels, from the first command on, and hands each reply to its ticket.

    In a cluster the loss of a shard concerns the partitions that lie there, and no others.
    """

    def __init__(self, channels: Channels, partitions: int, client_id: str, outbox: Outbox) -> None:
        """Listen on one channel a partition; what must be asked again goes through the outbox."""
        self._channels = channels
        self._names = [channels.reply_channel(partition, client_id) for partition in range(partitions)]
        self._losses = [channels.loss_channel(partition) for partition in range(partitions)]
        self._partitions = {name: partition for partition, name in enumerate(self._names)}
        self._outbox = outbox
        self._pending: dict[str, Pending] = {}
        self._reminder = Reminder(self._pending, outbox)
        self._reminding: asyncio.Task[None] | None = None
        self._listeners: dict[int, Listener] = {}
        self._connections = [0] * partitions
        self._deaf: set[int] = set()
        self._closed = False
        outbox.tell(self.queued)

    def channel(self, partition: int) -> str:
        """Return the channel for replies from a partition."""
        return self._names[partition]

    async def open(self, partition: int, until: float | None = None) -> None:
        """Have somebody listen for replies from a partition, or try to: until then nothing is published to it.

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
        self, commands: Sequence[Addressed], timeout: float = 0.0, *, own_ids: bool = False
    ) -> AbstractContextManager[list[Expected]]:
        """Give the answers to commands that are sent meanwhile; if that fails, expect none.

        A command that is sent again has the answer of the first time. It stays until all sends of it have failed, for
        one of them is queued, or may still be. Answers are waited for `timeout` seconds, at least. `own_ids` where the
        caller chose the ids, and may have used them before.

        Raises:
            DuplicateMismatch: another command of this client is under way under the id.

        """
        now = asyncio.get_running_loop().time()
        fresh = {
            command.entry.command_id: Pending(
                Expected(), command, now, timeout, own_ids, self._connections[command.partition]
            )
            for command in commands
            if command.entry.command_id not in self._pending
        }
        sent = [fresh.get(c.entry.command_id) or self._pending[c.entry.command_id] for c in commands]
        for command, pending in zip(commands, sent, strict=True):
            if not pending.is_for(command):
                raise DuplicateMismatch(command.entry.command_id)
        self._pending.update(fresh)
        for pending in sent:
            pending.sends += 1
        return _Sends(sent, self._let_go)

    def queued(self, partition: int, entries: Sequence[CommandEntry]) -> None:
        """Note that commands are queued; what was answered while nobody listened is asked for at once.

        Called by the outbox, before anything else is published: what it has noted goes ahead of that behind a new
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

    def _let_go(self, pending: Pending) -> None:
        """Expect no answer because of a send that failed."""
        pending.sends -= 1
        command_id = pending.command.entry.command_id
        if not pending.sends and self._pending.get(command_id) is pending:
            del self._pending[command_id]

    async def aclose(self) -> None:
        """Stop to listen, for good; whoever still waits gets `Unavailable`."""
        self._closed = True
        if self._reminding:
            self._reminding.cancel()
        await asyncio.gather(*(listener.aclose() for listener in set(self._listeners.values())))
        self._settle(set(self._partitions.values()), Unavailable(CLOSED))

    def listen(self, channels: Sequence[str]) -> None:
        """Have a listener on channels, unless it was closed."""
        if self._closed:
            return
        listener = Listener(self._channels, channels, self)
        self._listeners.update((self._partitions[name], listener) for name in channels)

    def with_losses(self, channels: Sequence[str]) -> list[str]:
        """Return reply channels, and those of the same partitions that tell of lost commands."""
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
        """Tell those who wait; who sends next opens it again."""
        partitions = {self._partitions[name] for name in channels}
        for partition in partitions:
            del self._listeners[partition]
        self._deaf -= partitions
        self._settle(partitions, Unavailable(reason))
        self._outbox.resume(dict.fromkeys(partitions, ()))

    def _ask_again(self, partition: int) -> None:
        """Send again what is unanswered, as far as workers still recognise it: it may be lost."""
        if partition in self._deaf or partition not in range(len(self._names)):
            # It is sent again anyway when there is a connection.
            return
        entries = [pending.command.entry for pending in self._recent(partition)]
        if entries:
            log.warning("commands may be lost, they are sent again", partition=partition, commands=len(entries))
            self._outbox.resume({partition: entries})

    def _recent(self, partition: int) -> list[Pending]:
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
        """Settle the tickets that replies are for, or send again what is unanswered where commands were lost."""
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
    """Look at a failure that nobody waits for, so that it is not reported as overlooked."""
    if not future.cancelled():
        future.exception()
