"""The sender of one partition: it publishes commands in order, and commands that are sent at the same time together.

If the result of a publication is unknown, the sender retries with the same commands and ids, as long as workers can
recognise them as duplicates (design §4). Until then it publishes no later command, except those that only free memory:
a full server accepts these and refuses the rest.
"""

import asyncio
import math
from collections import deque
from collections.abc import Sequence

from msgspec.structs import replace

from turnstream.backoff import Backoff
from turnstream.client.replies.pending_commands import PendingCommands
from turnstream.client.sending.requests import MAX_BATCH, SendRequest, first_batch, next_batch
from turnstream.errors import Overloaded, ServerFull, Unavailable
from turnstream.logging import get_logger
from turnstream.ports import CommandEntry, CommandQueue

log = get_logger(__name__)

PAUSE_POLL_S = 0.25
"""Seconds between two checks for expired requests while the sender is paused."""


def _are_mixed(requests: Sequence[SendRequest]) -> bool:
    """Return whether some requests only free memory, and others do not."""
    return len({request.frees for request in requests}) > 1


class PartitionSender:
    """Publishes the commands of one partition, one publication at a time."""

    def __init__(
        self, queue: CommandQueue, partition: int, pending: PendingCommands, max_batch: int = MAX_BATCH
    ) -> None:
        """Publish up to `max_batch` commands at once; those that are pending are then marked as queued."""
        self._queue = queue
        self._partition = partition
        self._pending = pending
        self._resend_window = pending.resend_window
        self._max_batch = max_batch
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[SendRequest] = deque()
        self._resends: list[CommandEntry] = []
        self._resends_until = 0.0
        self._closed = False
        self._full = False
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._pause_reason = ""
        self._in_flight: Sequence[SendRequest] = ()
        self._failure: Unavailable | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def send(
        self,
        entries: Sequence[CommandEntry],
        timeout: float | None = 0.0,
        *,
        wait: bool = False,
        until: float = math.inf,
    ) -> asyncio.Future[None]:
        """Publish commands, in this order and after those that wait already.

        Args:
            entries: the commands.
            timeout: seconds in which a failed publication is retried; `None`: as long as the caller waits.
            wait: wait for room if the partition has too many commands.
            until: the time of the event loop's clock when the caller stops waiting, even for an attempt in progress.

        Returns:
            A future that is done when all of them are durably queued. It fails with `Overloaded` when the partition
            has too many commands, and with `Unavailable` when it is not known whether they are queued.

        """
        deadline = until if timeout is None else asyncio.get_running_loop().time() + timeout
        request = SendRequest(entries, deadline, wait=wait, until=until)
        self._waiting.append(request)
        if until < self._timer_at:
            self._set_timer(until)
        self._start()
        return request.future

    def pause(self, reason: str) -> None:
        """Publish nothing until `resume`; requests that expire before then fail with this reason."""
        if not self._closed:
            self._pause_reason = reason
            self._may_send.clear()

    def resume(self, resends: Sequence[CommandEntry]) -> None:
        """Publish again, first these commands, which were published before; they replace an earlier list."""
        self._resends = list(resends)
        self._resends_until = asyncio.get_running_loop().time() + self._resend_window
        self._may_send.set()
        self._start()

    async def aclose(self) -> None:
        """Publish what waits, without retries, and wait for it."""
        self._closed = True
        self._set_timer(math.inf)
        self._may_send.set()
        if self._task is not None:
            await self._task

    def _set_timer(self, time: float) -> None:
        """Set the timer that fails expired requests; one timer serves all requests."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = time
        self._timer = None if time == math.inf else asyncio.get_running_loop().call_at(time, self._expire)

    def _expire(self) -> None:
        """Fail the requests of callers that no longer wait; their unpublished entries are dropped."""
        now = asyncio.get_running_loop().time()
        requests = (*self._in_flight, *self._waiting)
        for request in requests:
            if now >= request.until:
                request.resolve(self._failure or Unavailable(self._reason_to_wait()))
        self._waiting = deque(each for each in self._waiting if each.taken or now < each.until)
        self._set_timer(min((each.until for each in requests if now < each.until), default=math.inf))

    def _reason_to_wait(self) -> str:
        """Return the reason why waiting requests get no answer."""
        paused = not self._may_send.is_set()
        return f"There is no connection for replies: {self._pause_reason}" if paused else "The server has not answered"

    def _start(self) -> None:
        if self._task is None and (self._waiting or self._resends):
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting or self._resends:
                if self._waiting:
                    await self._publish(*next_batch(self._waiting, self._max_batch, alike=self._full))
                else:
                    await self._publish_only_resends()
        finally:
            self._task = None

    async def _publish(self, entries: Sequence[CommandEntry], requests: Sequence[SendRequest]) -> None:
        failure: Exception | None = None
        self._in_flight = requests
        try:
            deadline = max(request.deadline for request in requests)
            await self._publish_with_retries(entries, deadline, wait=requests[0].wait, mixed=_are_mixed(requests))
        except ServerFull as error:
            if _are_mixed(requests):
                self._put_back(entries, requests)
                return
            failure = error
            self._drop(requests[-1])
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers get it
            failure = error
            self._drop(requests[-1])
        else:
            self._mark_queued(entries)
        self._in_flight, self._failure = (), None
        for request in requests:
            if failure or request.all_taken:
                request.resolve(failure)

    def _mark_queued(self, entries: Sequence[CommandEntry]) -> None:
        """Mark commands as queued; those whose replies may have been missed are resent.

        This is done before anything else is published, so resends keep their order after a new reply connection.
        """
        missed = self._pending.mark_queued(self._partition, entries)
        if missed:
            resend = self.send(missed, self._resend_window, wait=True)
            resend.add_done_callback(_ignore_failure)

    def _drop(self, failed: SendRequest) -> None:
        """Drop the rest of a failed request: it must not be applied without the entries that failed."""
        if failed in self._waiting:
            self._waiting.remove(failed)

    def _put_back(self, entries: Sequence[CommandEntry], requests: Sequence[SendRequest]) -> None:
        """Put refused requests back: on a full server, those that only free memory are sent first and separately."""
        left = len(entries)
        for request in reversed(requests):
            taken = min(left, request.taken)
            request.taken -= taken
            left -= taken
            if request not in self._waiting and not request.future.done():
                self._waiting.appendleft(request)
        self._in_flight = ()
        first = [each for each in self._waiting if each.frees and not each.taken and each in requests]
        self._waiting = deque([*first, *(each for each in self._waiting if each not in first)])

    async def _publish_freeing(self, full: ServerFull, *, give_up: bool) -> None:
        """Publish what only frees memory ahead of what a full server has refused, unless that is to `give_up`."""
        self._full = True
        if give_up:
            raise full
        for request in [each for each in self._waiting if each.frees and not each.taken and self._may_send.is_set()]:
            self._waiting.remove(request)
            try:
                await self._queue.publish(self._partition, _with_time_left(request.entries))
            except Unavailable:
                # Under the same ids it has one effect, however often it is published.
                self._waiting.appendleft(request)
                return
            self._mark_queued(request.entries)
            request.resolve(None)

    async def _publish_only_resends(self) -> None:
        """Publish commands again that were published before; their callers detect a failure by their time-outs."""
        resends = self._resends
        try:
            await self._publish_with_retries((), self._resends_until, wait=True)
        except Unavailable:
            # `resume` may have set another list since.
            if resends is self._resends:
                self._resends = []

    async def _publish_with_retries(
        self, entries: Sequence[CommandEntry], deadline: float, *, wait: bool, mixed: bool = False
    ) -> None:
        """Publish entries after those that were published before; retry until the deadline.

        Raises:
            ServerFull: if the entries are `mixed`, also before the deadline: some may be accepted alone.

        """
        backoff: Backoff | None = None
        clock = asyncio.get_running_loop().time
        tried = unknown = False
        while True:
            try:
                await self._publish_resends(deadline)
                if not entries:
                    return
                tried = True
                await self._queue.publish(self._partition, _with_time_left(entries))
            except Overloaded as error:
                if not wait:
                    raise
                failure: Unavailable = error
            except Unavailable as error:
                self._log_first(backoff, error)
                if isinstance(error, ServerFull):
                    # No entry was queued.
                    await self._publish_freeing(error, give_up=mixed and not unknown)
                elif tried and not unknown:
                    # Some may be queued. For these a refusal means to wait, as long as duplicates are recognised.
                    wait = unknown = True
                    deadline = min(deadline, clock() + self._resend_window)
                failure = error
            else:
                self._full = False
                return
            self._failure = failure
            backoff = backoff or Backoff()
            delay = backoff.failed()
            if self._closed or clock() + delay > deadline:
                raise failure
            self._fail_waiting(failure)
            await asyncio.sleep(delay)

    def _log_first(self, backoff: Backoff | None, failure: Unavailable) -> None:
        if backoff is None:
            log.warning("commands cannot be queued", partition=self._partition, error=str(failure))

    async def _publish_resends(self, deadline: float) -> None:
        """Publish commands again that were published before a connection for replies was lost."""
        await self._wait_while_paused(deadline)
        while self._resends:
            await self._publish_some_resends()
            await self._wait_while_paused(deadline)

    async def _wait_while_paused(self, deadline: float) -> None:
        """Wait until the sender is not paused."""
        clock = asyncio.get_running_loop().time
        while not self._may_send.is_set():
            try:
                async with asyncio.timeout_at(min(deadline, clock() + PAUSE_POLL_S)):
                    await self._may_send.wait()
            except TimeoutError:
                failure = Unavailable(self._reason_to_wait())
                if clock() >= deadline:
                    raise failure from None
                self._fail_waiting(failure)

    async def _publish_some_resends(self) -> None:
        """Publish some of the earlier commands again, as long as workers recognise duplicates."""
        resends = self._resends
        if asyncio.get_running_loop().time() > self._resends_until:
            self._resends = []
            return
        some = first_batch(resends, self._max_batch)
        try:
            await self._queue.publish(self._partition, _with_time_left(some))
            del resends[: len(some)]
        except Unavailable:
            raise
        except Exception:
            log.exception("commands cannot be published again", partition=self._partition)
            self._resends = []

    def _fail_waiting(self, failure: Unavailable) -> None:
        """Fail what does not wait any longer for its turn."""
        now = asyncio.get_running_loop().time()
        waiting = self._waiting
        self._waiting = deque()
        for request in waiting:
            if request.should_fail(failure, now):
                request.resolve(failure)
            else:
                self._waiting.append(request)


def _with_time_left(entries: Sequence[CommandEntry]) -> Sequence[CommandEntry]:
    """Return entries with the time that is left to apply them; some may have passed since they were sent."""
    if all(entry.apply_until is None for entry in entries):
        return entries
    now = asyncio.get_running_loop().time()
    return [
        entry
        if entry.apply_until is None
        else replace(entry, apply_within_ms=max(0, math.ceil((entry.apply_until - now) * 1000)))
        for entry in entries
    ]


def _ignore_failure(future: asyncio.Future[None]) -> None:
    """Retrieve a failure that no call waits for, so that asyncio does not report it as never retrieved."""
    if not future.cancelled():
        future.exception()
