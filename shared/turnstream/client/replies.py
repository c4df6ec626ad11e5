"""How replies reach those who wait for them, whatever happens to the connection (design §4, §10).

A lost connection may have taken replies with it. So behind each new one all commands that are still unanswered are sent
again, under their ids and in their order: a worker applies each once, and tells its recorded outcome again. What stays
unanswered without that is asked for once more, too (`reminding`).
"""

import asyncio
import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import msgspec

from turnstream.backoff import Backoff
from turnstream.client.addressing import Addressed
from turnstream.client.outbox import Outbox
from turnstream.client.pending import Pending
from turnstream.client.reminding import Reminder
from turnstream.client.tickets import Answer
from turnstream.codec.replies import decode_replies
from turnstream.errors import DuplicateMismatch, Unavailable
from turnstream.ports import Channels, CommandEntry, Subscription
from turnstream.telemetry import get_logger

log = get_logger(__name__)

CLOSED = "The client was closed before the answer came; the command may still be applied"


class Replies:
    """Listens on the client's reply channels, from the first command on, and hands each reply to its ticket."""

    def __init__(self, channels: Channels, partitions: int, client_id: str, outbox: Outbox) -> None:
        """Listen on one channel a partition; what must be asked again goes through the outbox."""
        self._channels = channels
        self._names = [channels.reply_channel(partition, client_id) for partition in range(partitions)]
        self._outbox = outbox
        self._pending: dict[str, Pending] = {}
        self._reminder = Reminder(self._pending, outbox)
        self._reminding: asyncio.Task[None] | None = None
        self._connections = 0
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def channel(self, partition: int) -> str:
        """Return the channel for replies from a partition."""
        return self._names[partition]

    async def open(self, timeout: float = 0.0) -> None:
        """Start to listen, if nobody does.

        Args:
            timeout: seconds for which it is tried.

        Raises:
            Unavailable: the server does not answer.

        """
        if self._task is not None:
            return
        async with self._opening:
            if self._task is None:
                subscription = await self._subscribed(asyncio.get_running_loop().time() + timeout)
                self._task = asyncio.create_task(self._run(subscription), name="replies")
                if self._reminding is None:
                    self._reminding = asyncio.create_task(self._reminder.run(), name="unanswered")

    @contextmanager
    def expecting(
        self, commands: Sequence[Addressed], timeout: float = 0.0, *, own_ids: bool = False
    ) -> Generator[list[asyncio.Future[Answer]]]:
        """Give the futures of the answers to commands that are sent meanwhile; if that fails, expect none.

        A command that is sent again has the future of the first time. It stays until all sends of it have failed, for
        one of them is queued, or may still be. Answers are waited for `timeout` seconds, at least. `own_ids` where the
        caller chose the ids, and may have used them before.

        Raises:
            DuplicateMismatch: another command of this client is under way under the id.

        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        fresh = {
            command.entry.command_id: Pending(loop.create_future(), command, now, timeout, own_ids, self._connections)
            for command in commands
            if command.entry.command_id not in self._pending
        }
        self._pending.update(fresh)
        sent = [self._pending[command.entry.command_id] for command in commands]
        for pending in sent:
            pending.sends += 1
        try:
            yield [self._answer(command) for command in commands]
        except BaseException:
            for pending in sent:
                self._let_go(pending)
            raise

    def queued(self, partition: int, entries: Sequence[CommandEntry]) -> None:
        """Note that commands are queued; what was answered while nobody listened is asked for at once."""
        lost: list[CommandEntry] = []
        for entry in entries:
            pending = self._pending.get(entry.command_id)
            if pending:
                pending.queued = True
                if pending.connection != self._connections:
                    lost.append(entry)
        if lost:
            again = self._outbox.put(partition, lost, self._outbox.resend_window, wait=True)
            again.add_done_callback(_heard)

    def _let_go(self, pending: Pending) -> None:
        """Expect no answer because of a send that failed."""
        pending.sends -= 1
        command_id = pending.command.entry.command_id
        if not pending.sends and self._pending.get(command_id) is pending:
            del self._pending[command_id]

    def _answer(self, command: Addressed) -> asyncio.Future[Answer]:
        pending = self._pending[command.entry.command_id]
        if not pending.is_for(command):
            raise DuplicateMismatch(command.entry.command_id)
        return pending.answer

    async def aclose(self) -> None:
        """Stop to listen; whoever still waits gets `Unavailable`."""
        tasks = [task for task in (self._reminding, self._task) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._settle_all(Unavailable(CLOSED))

    async def _run(self, subscription: Subscription) -> None:
        """Listen until closed; a lost connection is opened again, and what it may have lost is asked for."""
        reason = CLOSED
        try:
            while await self._is_lost(subscription):
                # What is sent from now on must not overtake what is sent again.
                self._outbox.hold()
                subscription = await self._subscribed(math.inf)
                self._connections += 1
                log.info("listening for replies again")
                self._outbox.resume(self._unanswered())
        except Exception as bug:
            log.exception("replies cannot be received")
            reason = f"Replies cannot be received: {bug}"
        finally:
            self._task = None
            self._settle_all(Unavailable(reason))
            self._outbox.resume({})

    async def _is_lost(self, subscription: Subscription) -> bool:
        """Hand out replies until the subscription ends; tell whether it was lost."""
        try:
            async for _, payload in subscription:
                self._receive(payload)
        except Unavailable as error:
            log.warning("no connection for replies", error=str(error))
            return True
        finally:
            await subscription.aclose()
        return False

    async def _subscribed(self, deadline: float) -> Subscription:
        backoff = Backoff()
        while True:
            try:
                return await self._channels.subscribe(self._names)
            except Unavailable:
                delay = backoff.failed()
                if asyncio.get_running_loop().time() + delay > deadline:
                    raise
            await asyncio.sleep(delay)

    def _unanswered(self) -> dict[int, list[CommandEntry]]:
        """Return what is queued and has no answer, by partition, as far as it can still be told from a new command."""
        now = asyncio.get_running_loop().time()
        lanes: dict[int, list[CommandEntry]] = {}
        for pending in [pending for pending in self._pending.values() if pending.queued]:
            if now - pending.sent_at < self._outbox.resend_window:
                lanes.setdefault(pending.command.partition, []).append(pending.command.entry)
            else:
                del self._pending[pending.command.entry.command_id]
                pending.settle(
                    Unavailable("There was no connection for so long that the answer cannot be had any more")
                )
        return lanes

    def _settle_all(self, reason: Unavailable) -> None:
        while self._pending:
            self._pending.popitem()[1].settle(reason)

    def _receive(self, payload: bytes) -> None:
        try:
            replies = decode_replies(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("reply cannot be read", size=len(payload))
            return
        for reply in replies:
            pending = self._pending.get(reply.command_id)
            if pending and pending.is_meant_by(reply):
                del self._pending[reply.command_id]
                pending.settle(reply)


def _heard(future: asyncio.Future[None]) -> None:
    """Look at a failure that nobody waits for, so that it is not reported as overlooked."""
    if not future.cancelled():
        future.exception()
