"""A listener on reply channels, over one connection after the other (design §4, ADR 14)."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from turnstream.backoff import Backoff
from turnstream.errors import Unavailable
from turnstream.logging import get_logger
from turnstream.ports import Channels, Subscription

log = get_logger(__name__)

CLOSED = "The client was closed before the answer came; the command may still be applied"


class ReplyHandler(Protocol):
    """The receiver of the replies and of the state of a listener."""

    def receive(self, payload: bytes) -> None:
        """Take a payload from one of the channels."""
        ...

    def with_losses(self, channels: Sequence[str]) -> Sequence[str]:
        """Return these channels, and those to listen on as well; all are on the same server."""
        ...

    def lost(self, channels: Sequence[str], why: str) -> None:
        """Note that channels have no listener."""
        ...

    def found(self, channels: Sequence[str]) -> None:
        """Note that channels have a listener from now on."""
        ...

    def listen(self, channels: Sequence[str]) -> None:
        """Listen on channels that are on another server, with another listener."""
        ...

    def ended(self, channels: Sequence[str], reason: str) -> None:
        """Note that the listener of channels has ended."""
        ...


class ReplyListener:
    """Listens on channels that are lost together; a lost connection is opened again, until closed."""

    def __init__(self, channels: Channels, names: Sequence[str], hears: ReplyHandler) -> None:
        """Start to listen; channels that turn out to be on another server are handed back."""
        self.tried = asyncio.Event()
        """Set when it listens, or has failed to for the first time."""
        self.failure: Exception | None = None
        """Why it has ended."""
        self._channels = channels
        self._names = names
        self._hears = hears
        self._losing = False
        hears.lost(names, "it is being opened")
        self._task = asyncio.create_task(self._run(), name="replies")

    async def aclose(self) -> None:
        """End it."""
        self.failure = Unavailable(CLOSED)
        self._task.cancel()
        await asyncio.wait([self._task])
        # Also if the task had not begun.
        self.tried.set()

    async def _run(self) -> None:
        reason = CLOSED
        try:
            while await self._is_lost(await self._subscribed()):
                pass
        except Exception as bug:
            # The call that opened it gets a failure of the first attempt.
            if self.tried.is_set():
                log.exception("replies cannot be received")
            reason = f"Replies cannot be received: {bug}"
            self.failure = bug
        finally:
            self.tried.set()
            self._hears.ended(self._names, reason)

    async def _subscribed(self) -> Subscription:
        backoff = Backoff()
        while True:
            try:
                self._names, *elsewhere = await self._channels.grouped(self._names)
                for names in elsewhere:
                    self._hears.listen(names)
                subscription = await self._channels.subscribe(self._hears.with_losses(self._names))
            except Unavailable as error:
                self._lose(error)
                await asyncio.sleep(backoff.failed())
            else:
                self._hears.found(self._names)
                if self._losing:
                    log.info("listening for replies again")
                self._losing = False
                self.tried.set()
                return subscription

    async def _is_lost(self, subscription: Subscription) -> bool:
        """Hand out replies until the subscription ends; return whether it was lost."""
        try:
            await subscription.consume(self._hears.receive)
        except Unavailable as error:
            self._lose(error)
            return True
        finally:
            await subscription.aclose()
        return False

    def _lose(self, error: Unavailable) -> None:
        if not self._losing:
            log.warning("no connection for replies", error=str(error))
        self._losing = True
        self._hears.lost(self._names, str(error))
        self.tried.set()
