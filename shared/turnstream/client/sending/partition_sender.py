"""The sender of one partition: it publishes commands in order, and commands that are sent at the same time together.

If the result of a publication is unknown, the sender retries with the same commands and ids, as long as workers can
recognise them as duplicates (design §4). Until then it publishes no later command, except those that only free memory:
a full server accepts these and refuses the rest.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from turnstream.backoff import Backoff
from turnstream.domain.command_specs import FREEING
from turnstream.errors import Overloaded, ServerFull, Unavailable
from turnstream.logging import get_logger
from turnstream.ports import CommandEntry, CommandQueue

log = get_logger(__name__)

MAX_TOGETHER = 256
MAX_BYTES_TOGETHER = 1024 * 1024

DEADLINE_TOLERANCE_S = 1.0
"""Seconds by which the deadlines of requests in one publication may differ."""

HOLD_POLL_S = 0.25
"""Seconds between two checks for expired requests while the sender is paused."""

Published = Callable[[int, Sequence[CommandEntry]], None]
"""Called with the queued commands of a partition, before any later command is published."""


class SendRequest:
    """The entries of one caller; `taken` of them are in flight or published."""

    def __init__(
        self, entries: Sequence[CommandEntry], deadline: float, *, wait: bool, until: float = math.inf
    ) -> None:
        """Keep entries to be tried until `deadline`; the caller waits until `until` at most.

        Both are times of the event loop's clock, in seconds. An attempt that has begun may outlast the deadline.
        """
        self.entries = entries
        self.deadline = deadline
        self.until = until
        self.wait = wait
        self.frees = all(entry.type in FREEING for entry in entries)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken = 0

    @property
    def all_taken(self) -> bool:
        """Whether none of its entries waits."""
        return self.taken == len(self.entries)

    def can_share_batch(self, other: "SendRequest", *, alike: bool) -> bool:
        """Return whether both requests may fail together: both wait for room or neither, with about the same deadline.

        If they must be `alike`, both free memory or neither.
        """
        if alike and self.frees is not other.frees:
            return False
        return self.wait is other.wait and abs(self.deadline - other.deadline) <= DEADLINE_TOLERANCE_S

    def should_fail(self, failure: Unavailable, now: float) -> bool:
        """Return whether this waiting request fails now, after a publication before it failed.

        A request with entries in flight fails or succeeds with these.
        """
        return not self.taken and (now > self.deadline or (isinstance(failure, Overloaded) and not self.wait))

    def settle(self, failure: Exception | None) -> None:
        """Resolve the future of the caller."""
        if self.future.done():
            return
        if failure:
            self.future.set_exception(failure)
        else:
            self.future.set_result(None)


def _are_mixed(puts: Sequence[SendRequest]) -> bool:
    """Return whether some requests only free memory, and others do not."""
    return len({put.frees for put in puts}) > 1


class PartitionSender:
    """Publishes the commands of one partition, one publication at a time."""

    def __init__(
        self, queue: CommandQueue, partition: int, resend_window: float, together: int, published: Published
    ) -> None:
        """Publish up to `together` commands at once, and retry for up to `resend_window` seconds."""
        self.task: asyncio.Task[None] | None = None
        self._queue = queue
        self._partition = partition
        self._published = published
        self._resend_window = resend_window
        self._most_together = together
        self._waiting: deque[SendRequest] = deque()
        self._again: list[CommandEntry] = []
        self._again_until = 0.0
        self._closed = False
        self._full = False
        self._open = asyncio.Event()
        self._open.set()
        self._why = ""
        self._in_flight: Sequence[SendRequest] = ()
        self._failure: Unavailable | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def put(self, put: SendRequest) -> asyncio.Future[None]:
        """Append a request to those that wait."""
        self._waiting.append(put)
        if put.until < self._timer_at:
            self._set_timer(put.until)
        self._start()
        return put.future

    def hold(self, why: str) -> None:
        """Publish nothing until `resume`; requests that expire before then fail with this reason."""
        if not self._closed:
            self._why = why
            self._open.clear()

    def resume(self, again: Sequence[CommandEntry]) -> None:
        """Publish again, first these commands, which were published before; they replace an earlier list."""
        self._again = list(again)
        self._again_until = asyncio.get_running_loop().time() + self._resend_window
        self._open.set()
        self._start()

    def close(self) -> None:
        """Continue without retries."""
        self._closed = True
        self._set_timer(math.inf)
        self._open.set()

    def _set_timer(self, time: float) -> None:
        """Set the timer that fails expired requests; one timer serves all requests."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = time
        self._timer = None if time == math.inf else asyncio.get_running_loop().call_at(time, self._expire)

    def _expire(self) -> None:
        """Fail the requests of callers that no longer wait; their unpublished entries are dropped."""
        now = asyncio.get_running_loop().time()
        late = [put for put in (*self._in_flight, *self._waiting) if now >= put.until]
        for put in late:
            put.settle(self._failure or Unavailable(self._reason_to_wait()))
        self._waiting = deque(put for put in self._waiting if put.taken or now < put.until)
        self._set_timer(
            min((put.until for put in (*self._in_flight, *self._waiting) if now < put.until), default=math.inf)
        )

    def _reason_to_wait(self) -> str:
        """Return the reason why waiting requests get no answer."""
        held = not self._open.is_set()
        return f"There is no connection for replies: {self._why}" if held else "The server has not answered"

    def _start(self) -> None:
        if self.task is None and (self._waiting or self._again):
            self.task = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while self._waiting or self._again:
                if self._waiting:
                    await self._publish(*self._together())
                else:
                    await self._publish_alone()
        finally:
            self.task = None

    async def _publish(self, entries: Sequence[CommandEntry], puts: Sequence[SendRequest]) -> None:
        failure: Exception | None = None
        self._in_flight = puts
        try:
            deadline = max(put.deadline for put in puts)
            await self._persist(entries, deadline, wait=puts[0].wait, mixed=_are_mixed(puts))
        except ServerFull as error:
            if _are_mixed(puts):
                self._separate(entries, puts)
                return
            failure = error
            self._drop_rest(puts[-1])
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers get it
            failure = error
            self._drop_rest(puts[-1])
        else:
            self._published(self._partition, entries)
        self._in_flight, self._failure = (), None
        for put in puts:
            if failure or put.all_taken:
                put.settle(failure)

    def _drop_rest(self, failed: SendRequest) -> None:
        """Drop the rest of a failed request: it must not be applied without the entries that failed."""
        if failed in self._waiting:
            self._waiting.remove(failed)

    def _separate(self, entries: Sequence[CommandEntry], puts: Sequence[SendRequest]) -> None:
        """Put refused requests back: on a full server, those that only free memory are sent first and separately."""
        left = len(entries)
        for put in reversed(puts):
            taken = min(left, put.taken)
            put.taken -= taken
            left -= taken
            if put not in self._waiting and not put.future.done():
                self._waiting.appendleft(put)
        self._in_flight = ()
        first = [put for put in self._waiting if put.frees and not put.taken and put in puts]
        self._waiting = deque([*first, *(put for put in self._waiting if put not in first)])

    async def _full_server(self, full: ServerFull, *, give_up: bool) -> None:
        """Publish what only frees memory ahead of what a full server has refused, unless that is to `give_up`."""
        self._full = True
        if give_up:
            raise full
        for put in [put for put in self._waiting if put.frees and not put.taken and self._open.is_set()]:
            self._waiting.remove(put)
            try:
                await self._queue.publish(self._partition, _in_time(put.entries, asyncio.get_running_loop().time()))
            except Unavailable:
                # Under the same ids it has one effect, however often it is published.
                self._waiting.appendleft(put)
                return
            self._published(self._partition, put.entries)
            put.settle(None)

    async def _publish_alone(self) -> None:
        """Publish commands again that were published before; their callers detect a failure by their time-outs."""
        again = self._again
        try:
            await self._persist((), self._again_until, wait=True)
        except Unavailable:
            # `resume` may have set another list since.
            if again is self._again:
                self._again = []

    async def _persist(
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
                await self._publish_all_again(deadline)
                if not entries:
                    return
                tried = True
                await self._queue.publish(self._partition, _in_time(entries, clock()))
            except Overloaded as error:
                if not wait:
                    raise
                failure: Unavailable = error
            except Unavailable as error:
                self._log_first(backoff, error)
                if isinstance(error, ServerFull):
                    # No entry was queued.
                    await self._full_server(error, give_up=mixed and not unknown)
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

    async def _publish_all_again(self, deadline: float) -> None:
        """Publish commands again that were published before a connection for replies was lost."""
        await self._opened(deadline)
        while self._again:
            await self._publish_again()
            await self._opened(deadline)

    async def _opened(self, deadline: float) -> None:
        """Wait until the sender is not paused."""
        clock = asyncio.get_running_loop().time
        while not self._open.is_set():
            try:
                async with asyncio.timeout_at(min(deadline, clock() + HOLD_POLL_S)):
                    await self._open.wait()
            except TimeoutError:
                failure = Unavailable(self._reason_to_wait())
                if clock() >= deadline:
                    raise failure from None
                self._fail_waiting(failure)

    async def _publish_again(self) -> None:
        """Publish some of the earlier commands again, as long as workers recognise duplicates."""
        again = self._again
        if asyncio.get_running_loop().time() > self._again_until:
            self._again = []
            return
        some = self._first(again)
        try:
            await self._queue.publish(self._partition, _in_time(some, asyncio.get_running_loop().time()))
            del again[: len(some)]
        except Unavailable:
            raise
        except Exception:
            log.exception("commands cannot be published again", partition=self._partition)
            self._again = []

    def _fail_waiting(self, failure: Unavailable) -> None:
        """Fail what does not wait any longer for its turn."""
        now = asyncio.get_running_loop().time()
        waiting = self._waiting
        self._waiting = deque()
        for put in waiting:
            if put.should_fail(failure, now):
                put.settle(failure)
            else:
                self._waiting.append(put)

    def _first(self, entries: list[CommandEntry]) -> list[CommandEntry]:
        """Return as many entries as fit into one publication, at least one."""
        size = 0
        for count, entry in enumerate(entries[: self._most_together]):
            size += len(entry.data)
            if count and size > MAX_BYTES_TOGETHER:
                return entries[:count]
        return entries[: self._most_together]

    def _together(self) -> tuple[list[CommandEntry], list[SendRequest]]:
        """Take the entries of the next publication, at least one, and the requests that they belong to."""
        entries: list[CommandEntry] = []
        puts: list[SendRequest] = []
        size = 0
        while self._waiting and len(entries) < self._most_together:
            put = self._waiting[0]
            entry = put.entries[put.taken]
            size += len(entry.data)
            if entries and (size > MAX_BYTES_TOGETHER or not put.can_share_batch(puts[0], alike=self._full)):
                break
            entries.append(entry)
            put.taken += 1
            if not puts or puts[-1] is not put:
                puts.append(put)
            if put.all_taken:
                self._waiting.popleft()
        return entries, puts


def _in_time(entries: Sequence[CommandEntry], now: float) -> Sequence[CommandEntry]:
    """Return entries with the time that is left to apply them; some may have passed since they were sent."""
    if all(entry.apply_until is None for entry in entries):
        return entries
    return [
        entry
        if entry.apply_until is None
        else replace(entry, apply_within_ms=max(0, math.ceil((entry.apply_until - now) * 1000)))
        for entry in entries
    ]
