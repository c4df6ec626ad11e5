"""Tickets: what a producer holds of a command that is queued, and how the replies reach them (design §10)."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import msgspec

from turnstream.codec.replies import decode_replies, error_of
from turnstream.errors import CommandParked, CommandTimeout, DuplicateMismatch, TurnstreamError, Unavailable
from turnstream.ports import Channels, CommandEntry, Reply, Subscription
from turnstream.telemetry import get_logger

log = get_logger(__name__)
Answer = Reply | TurnstreamError


class Applied(msgspec.Struct, frozen=True):
    """What a ticket gives: the session and its version behind the command; `output` is what else it gave, as JSON."""

    session_id: str
    version: int
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Ticket:
    """A queued command; await it, again and again if need be, to learn that it was applied."""

    def __init__(self, command_id: str, session_id: str, answer: asyncio.Future[Answer], timeout: float) -> None:
        """Hold a command whose answer will come."""
        self.command_id = command_id
        self.session_id = session_id
        self._answer = answer
        self._timeout = timeout

    def __await__(self) -> Generator[object, None, Applied]:
        """Wait until the command is applied.

        Raises:
            Rejected: it was refused; the class says why.
            CommandParked: its session is parked; it waits for an operator.
            CommandTimeout: no answer came in time.
            Unavailable: the connection for replies was lost.

        """
        return self._applied().__await__()

    def __repr__(self) -> str:
        """Show which command it is, never its content."""
        return f"Ticket(command_id={self.command_id!r}, session_id={self.session_id!r}, done={self._answer.done()})"

    async def _applied(self) -> Applied:
        if not self._answer.done():
            try:
                async with asyncio.timeout(self._timeout):
                    await asyncio.shield(self._answer)
            except TimeoutError:
                raise CommandTimeout(self.command_id, self._timeout) from None
        answer = self._answer.result()
        if isinstance(answer, TurnstreamError):
            raise answer
        if answer.error:
            raise error_of(answer.error)
        if answer.status == "parked":
            raise CommandParked(self.session_id, self.command_id)
        return Applied(self.session_id, answer.version, answer.output)


class Replies:
    """Listens on the client's reply channels, from the first command on, and hands each reply to its ticket."""

    def __init__(self, channels: Channels, partitions: int, client_id: str) -> None:
        """Listen on one channel a partition."""
        self._channels = channels
        self._names = [channels.reply_channel(partition, client_id) for partition in range(partitions)]
        # The future of the answer, and what tells the command from another one under its id.
        self._pending: dict[str, tuple[asyncio.Future[Answer], int]] = {}
        self._opening = asyncio.Lock()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    def channel(self, partition: int) -> str:
        """Return the channel for replies from a partition."""
        return self._names[partition]

    async def open(self) -> None:
        """Start to listen, if nobody does."""
        if self._task is not None and not self._task.done():
            return
        async with self._opening:
            if self._task is None or self._task.done():
                self._subscription = await self._channels.subscribe(self._names)
                self._task = asyncio.create_task(self._listen(self._subscription), name="replies")

    @contextmanager
    def expecting(self, entries: Sequence[CommandEntry]) -> Generator[list[asyncio.Future[Answer]]]:
        """Give the futures of the answers to commands that are sent meanwhile; if that fails, expect none.

        A command that is sent again has the future of the first time, which stays, for that one is queued.

        Raises:
            DuplicateMismatch: another command of this client is under way under the id.

        """
        create = asyncio.get_running_loop().create_future
        fresh = {
            entry.command_id: (create(), _payload(entry)) for entry in entries if entry.command_id not in self._pending
        }
        self._pending.update(fresh)
        try:
            yield [self._future(entry) for entry in entries]
        except BaseException:
            for command_id in fresh:
                self._pending.pop(command_id, None)
            raise

    def _future(self, entry: CommandEntry) -> asyncio.Future[Answer]:
        future, payload = self._pending[entry.command_id]
        if payload != _payload(entry):
            raise DuplicateMismatch(entry.command_id)
        return future

    async def aclose(self) -> None:
        """Stop to listen; whoever still waits gets `Unavailable`."""
        if self._subscription:
            await self._subscription.aclose()
        if self._task:
            await self._task

    async def _listen(self, subscription: Subscription) -> None:
        reason = Unavailable("The client was closed before the answer came; the command may still be applied")
        try:
            async for _, payload in subscription:
                self._receive(payload)
        except Unavailable as error:
            reason = error
        finally:
            await subscription.aclose()
            lost, self._pending = self._pending, {}
            for future, _ in lost.values():
                _settle(future, reason)

    def _receive(self, payload: bytes) -> None:
        try:
            replies = decode_replies(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("reply cannot be read", size=len(payload))
            return
        for reply in replies:
            pending = self._pending.pop(reply.command_id, None)
            if pending:
                _settle(pending[0], reply)


def _settle(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _payload(entry: CommandEntry) -> int:
    return hash((entry.type, entry.data))
