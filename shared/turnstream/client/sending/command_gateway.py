"""The gateway for commands: it sends them, receives their replies, and handles lost connections (design §4, §10).

Control goes one way. The gateway pauses and resumes the senders of the partitions. A sender publishes commands, and
marks them in the table of pending commands. Replies resolve the commands of that table.

`CommandGateway._receive_replies` shows what happens when a connection for replies is lost, and opened again.
"""

import asyncio
from collections.abc import Iterable, Sequence
from copy import copy
from functools import partial

import msgspec

from turnstream.backoff import Backoff
from turnstream.client.replies.pending_commands import PendingCommand, PendingCommands, PendingReply
from turnstream.client.replies.resend_schedule import POLL_INTERVAL_S, ResendSchedule
from turnstream.client.sending.partition_sender import PartitionSender
from turnstream.client.sending.requests import MAX_BATCH, AddressedCommand, Deadline
from turnstream.codec.records import decode_loss, decode_replies
from turnstream.errors import CommandTimeout, KeyUnusable, Overloaded, ServerFull, Unavailable
from turnstream.logging import get_logger
from turnstream.ports import Channels, CommandEntry, CommandQueue, Subscription

log = get_logger(__name__)

CLOSED = "The client was closed before the answer came; the command may still be applied"

LOSS_PREFIX = b"{"
"""The start of a payload that announces lost commands; replies are an array."""

RESEND_FRACTION = 0.4
"""The fraction of the deduplication window for retrying a publication, and for resending an unanswered command: one may
follow the other, and both must fit into the window with the time of the way to the stream."""


class SendOptions(msgspec.Struct, frozen=True, gc=False):
    """How a call sends: until when, the seconds that were given for that, and whether it waits for room."""

    deadline: Deadline
    timeout: float
    wait: bool


class _Listener(msgspec.Struct, eq=False):
    """The task that receives the replies from partitions whose channels are on one server.

    `tried` is set when it receives, or has failed to for the first time; `failure` is why it has ended.
    """

    partitions: Sequence[int]
    tried: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    disconnected: bool = False
    failure: Exception | None = None
    task: asyncio.Task[None] | None = None


class CommandGateway:
    """Sends the commands of a client and receives their replies, from the first command on.

    In a cluster the loss of a shard concerns only its partitions.
    """

    def __init__(
        self,
        channels: Channels,
        queue: CommandQueue,
        partitions: int,
        client_id: str,
        window: float,
        max_backlog: int = MAX_BATCH,
    ) -> None:
        """Use a deployment; nothing is opened yet.

        Args:
            channels: the channels for replies, one for each partition.
            queue: the command streams.
            partitions: the number of partitions.
            client_id: names the reply channels of this client.
            window: seconds in which workers recognise a command that is sent again.
            max_backlog: commands that may wait in a stream; it would never admit more at once.

        """
        self.channels = [channels.reply_channel(partition, client_id) for partition in range(partitions)]
        self._loss_channels = [channels.loss_channel(partition) for partition in range(partitions)]
        self._partitions = {name: partition for partition, name in enumerate(self.channels)}
        self._pubsub = channels
        self._pending = PendingCommands(partitions, window * RESEND_FRACTION)
        self._senders = [
            PartitionSender(queue, partition, self._pending, min(MAX_BATCH, max_backlog))
            for partition in range(partitions)
        ]
        self._schedule = ResendSchedule(self._pending)
        self._resending: asyncio.Task[None] | None = None
        self._listeners: dict[int, _Listener] = {}
        self._closed = False

    async def send(self, command: AddressedCommand, options: SendOptions) -> PendingReply:
        """Queue a command and return its reply to come; raises what `send_many` does."""
        await self._connect(command.partition, command.entry.command_id, options.deadline)
        with self._pending.register([command], options.timeout) as (reply,):
            await self._publish(command.partition, [command.entry], options)
        return reply

    async def send_many(self, commands: Sequence[AddressedCommand], options: SendOptions) -> list[PendingReply]:
        """Queue commands, those of each partition in their order, and return their replies to come.

        Raises:
            DuplicateMismatch: another command of this client has one of the ids and no reply yet. Nothing was sent.
            CommandTimeout: the time of the call is over.
            Overloaded: a partition has too many commands.
            Unavailable: it is not known which commands were queued.

        """
        entries_of: dict[int, list[CommandEntry]] = {}
        for command in commands:
            entries_of.setdefault(command.partition, []).append(command.entry)
        for partition, entries in entries_of.items():
            await self._connect(partition, entries[0].command_id, options.deadline)
        with self._pending.register(commands, options.timeout) as replies:
            publications = [self._publish(partition, entries, options) for partition, entries in entries_of.items()]
            for failure in await asyncio.gather(*publications, return_exceptions=True):
                if failure is not None:
                    raise failure
        return replies

    async def _connect(self, partition: int, command_id: str, deadline: Deadline) -> None:
        """Open the connection for replies before anything is sent."""
        try:
            await self.listen(partition, deadline.at)
        except Unavailable as error:
            if deadline.left:
                raise
            raise CommandTimeout(command_id, deadline.passed, _sentence(error), sent=False) from error

    async def _publish(self, partition: int, entries: Sequence[CommandEntry], options: SendOptions) -> None:
        """Publish commands; each call gets its own error, with the id of its first command."""
        command_id, deadline = entries[0].command_id, options.deadline
        try:
            await self._senders[partition].send(entries, None, wait=options.wait, until=deadline.at)
        except Overloaded:
            raise
        except ServerFull as error:
            raise ServerFull(str(error), command_id) from error
        except KeyUnusable as error:
            own = copy(error)
            own.command_id = command_id
            raise own from error
        except Unavailable as error:
            if deadline.left:
                raise Unavailable(str(error), command_id) from error
            reason = f"It is not known whether it was queued: {_sentence(error)}"
            raise CommandTimeout(command_id, deadline.passed, reason) from error

    async def aclose(self) -> None:
        """Wait for publications in flight, and stop listening; calls that still wait get `Unavailable`."""
        self._closed = True
        await asyncio.gather(*(sender.aclose() for sender in self._senders))
        if self._resending:
            self._resending.cancel()
        await asyncio.gather(*(_end(listener) for listener in set(self._listeners.values())))
        self._pending.fail(range(len(self.channels)), Unavailable(CLOSED))

    async def listen(self, partition: int, until: float | None = None) -> None:
        """Receive replies from a partition, or try it once: before that nothing is published to it.

        Raises:
            ConfigurationError: the server does not let this user listen.
            Unavailable: the client was closed, or this took until a time of the event loop's clock.

        """
        self._check_open()
        while (listener := self._listeners.get(partition)) is None or not listener.tried.is_set():
            if listener is None:
                self._start_listener([each for each in range(len(self.channels)) if each not in self._listeners])
                listener = self._listeners[partition]
            try:
                async with asyncio.timeout_at(until):
                    await listener.tried.wait()
            except TimeoutError:
                raise Unavailable("There is no connection for replies yet") from None
            if listener.failure:
                raise listener.failure
            self._check_open()
        if self._resending is None:
            self._resending = asyncio.create_task(self._resend_unanswered(), name="unanswered")

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The client was closed before the command was sent")

    def _start_listener(self, partitions: Sequence[int]) -> None:
        """Receive replies from partitions in a separate task, unless the client is closed."""
        if self._closed:
            return
        listener = _Listener(partitions)
        self._listeners.update(dict.fromkeys(partitions, listener))
        self._pause(partitions, "it is being opened")
        listener.task = asyncio.create_task(self._receive_replies(listener), name="replies")

    async def _receive_replies(self, listener: _Listener) -> None:
        """Receive replies until the client is closed; a lost connection is opened again."""
        reason = CLOSED
        try:
            while True:
                subscription = await self._subscribe(listener)
                self._resume(listener)
                try:
                    await subscription.consume(self._receive)
                    break
                except Unavailable as error:
                    self._disconnect(listener, error)
                finally:
                    await subscription.aclose()
        except Exception as bug:
            # The call that started the listener gets a failure of the first attempt.
            if listener.tried.is_set():
                log.exception("replies cannot be received")
            reason = f"Replies cannot be received: {bug}"
            listener.failure = bug
        finally:
            listener.tried.set()
            self._stop(listener.partitions, reason)

    async def _subscribe(self, listener: _Listener) -> Subscription:
        """Subscribe to the channels of a listener; those on another server get another listener."""
        backoff = Backoff()
        while True:
            try:
                groups = await self._pubsub.grouped([self.channels[each] for each in listener.partitions])
                listener.partitions, *others = [[self._partitions[name] for name in group] for group in groups]
                for partitions in others:
                    self._start_listener(partitions)
                replies = [self.channels[partition] for partition in listener.partitions]
                losses = [self._loss_channels[partition] for partition in listener.partitions]
                return await self._pubsub.subscribe([*replies, *losses])
            except Unavailable as error:
                self._disconnect(listener, error)
                await asyncio.sleep(backoff.failed())

    def _disconnect(self, listener: _Listener, error: Unavailable) -> None:
        """Publish nothing from now on: it must not overtake commands that will be resent."""
        if not listener.disconnected:
            log.warning("no connection for replies", error=str(error))
        listener.disconnected = True
        self._pause(listener.partitions, str(error))
        listener.tried.set()

    def _pause(self, partitions: Iterable[int], reason: str) -> None:
        self._pending.disconnect(partitions)
        for partition in partitions:
            self._senders[partition].pause(reason)

    def _resume(self, listener: _Listener) -> None:
        """Publish again, first the commands whose replies may have been lost with the former connection."""
        for partition, resends in self._pending.connect(listener.partitions).items():
            self._senders[partition].resume(resends)
        if listener.disconnected:
            log.info("listening for replies again")
        listener.disconnected = False
        listener.tried.set()

    def _stop(self, partitions: Sequence[int], reason: str) -> None:
        """Fail the calls that wait; the next command starts a new listener."""
        for partition in partitions:
            del self._listeners[partition]
        self._pending.fail(partitions, Unavailable(reason))
        for partition, resends in self._pending.connect(partitions).items():
            self._senders[partition].resume(resends)

    def _receive(self, payload: bytes) -> None:
        """Resolve the commands of replies, or resend unanswered commands after an announcement of lost ones."""
        try:
            if payload.startswith(LOSS_PREFIX):
                self._resend_lost(decode_loss(payload).partition)
                return
            replies = decode_replies(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("reply cannot be read", size=len(payload))
            return
        for reply in replies:
            self._pending.resolve(reply)

    def _resend_lost(self, partition: int) -> None:
        """Resend the unanswered commands of a partition that workers still recognise: they may be lost."""
        if partition in self._pending.disconnected or partition not in range(len(self.channels)):
            # They are resent anyway when there is a connection.
            return
        entries = self._pending.resendable(partition)
        if entries:
            log.warning("commands may be lost, they are sent again", partition=partition, commands=len(entries))
            self._senders[partition].resume(entries)

    async def _resend_unanswered(self) -> None:
        """Resend commands that stay unanswered without a lost connection."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            self._resend_due(asyncio.get_running_loop().time())

    def _resend_due(self, now: float) -> None:
        for partition, due in self._schedule.due(now).items():
            # This does not wait for room: a refused command is resent later.
            entries = [pending.command.entry for pending in due]
            resend = self._senders[partition].send(entries, self._pending.resend_window)
            resend.add_done_callback(partial(_allow_another, due))


async def _end(listener: _Listener) -> None:
    listener.failure = Unavailable(CLOSED)
    if listener.task is not None:
        listener.task.cancel()
        await asyncio.wait([listener.task])
    # Also if the task had not begun.
    listener.tried.set()


def _allow_another(due: Sequence[PendingCommand], resend: asyncio.Future[None]) -> None:
    """Make commands due again if their resend was refused."""
    if not resend.cancelled() and resend.exception():
        for pending in due:
            pending.overdue_resent_at = 0.0


def _sentence(error: Unavailable) -> str:
    return f"{str(error).rstrip('.')}."
