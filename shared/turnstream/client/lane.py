"""The commands for one partition on their way out: what is sent at the same time travels together, in order.

A publication whose result is unknown is tried again, with the same commands under the same ids, for as long as workers
recognise them (design §4). Until then nothing that follows is published, but for what only frees memory: a full server
takes that, and refuses the rest.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from turnstream.backoff import Backoff
from turnstream.domain.commands import FREEING
from turnstream.errors import Overloaded, ServerFull, Unavailable
from turnstream.ports import CommandEntry, CommandQueue
from turnstream.telemetry import get_logger

log = get_logger(__name__)

MAX_TOGETHER = 256
MAX_BYTES_TOGETHER = 1024 * 1024

SAME_TIME = 1.0
"""Seconds between the deadlines of what travels together."""

GLANCE = 0.25
"""Seconds between two looks, while a lane is held, for those whose time is over."""

Published = Callable[[int, Sequence[CommandEntry]], None]
"""Is told of commands of a partition that are queued, before anything is published behind them."""


class Put:
    """What one caller put into a lane; `taken` of its entries are under way or published."""

    def __init__(
        self, entries: Sequence[CommandEntry], deadline: float, *, wait: bool, until: float = math.inf
    ) -> None:
        """Hold entries that are tried until a deadline, and for which the caller waits no longer than `until`.

        Both are times of the event loop's clock, in seconds; a try that has begun may take longer than the deadline.
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
        """Tell whether nothing of it waits any more."""
        return self.taken == len(self.entries)

    def goes_with(self, other: "Put", *, alike: bool) -> bool:
        """Tell whether both may fail together: they wait for the same, and about as long; also both free, or neither.

        The last only where they are to be `alike`.
        """
        if alike and self.frees is not other.frees:
            return False
        return self.wait is other.wait and abs(self.deadline - other.deadline) <= SAME_TIME

    def gives_up(self, failure: Unavailable, now: float) -> bool:
        """Tell whether it waits no longer behind what has failed; what is taken fails with what it travels with."""
        return not self.taken and (now > self.deadline or (isinstance(failure, Overloaded) and not self.wait))

    def settle(self, failure: Exception | None) -> None:
        """Tell the caller."""
        if self.future.done():
            return
        if failure:
            self.future.set_exception(failure)
        else:
            self.future.set_result(None)


def _are_mixed(puts: Sequence[Put]) -> bool:
    """Tell whether some of them only free memory, and others do not."""
    return len({put.frees for put in puts}) > 1


class Lane:
    """One publication is under way at a time."""

    def __init__(
        self, queue: CommandQueue, partition: int, resend_window: float, together: int, published: Published
    ) -> None:
        """Publish to one partition, up to `together` commands at once; try again for up to `resend_window` seconds."""
        self.task: asyncio.Task[None] | None = None
        self._queue = queue
        self._partition = partition
        self._published = published
        self._resend_window = resend_window
        self._most_together = together
        self._waiting: deque[Put] = deque()
        self._again: list[CommandEntry] = []
        self._again_until = 0.0
        self._closed = False
        self._full = False
        self._open = asyncio.Event()
        self._open.set()
        self._why = ""
        self._in_hand: Sequence[Put] = ()
        self._failure: Unavailable | None = None
        self._look_again: asyncio.TimerHandle | None = None
        self._next_look = math.inf

    def put(self, put: Put) -> asyncio.Future[None]:
        """Queue behind all that waits."""
        self._waiting.append(put)
        if put.until < self._next_look:
            self._look_at(put.until)
        self._start()
        return put.future

    def hold(self, why: str) -> None:
        """Publish nothing until `resume`, and tell those who cannot wait so long why."""
        if not self._closed:
            self._why = why
            self._open.clear()

    def resume(self, again: Sequence[CommandEntry]) -> None:
        """Publish, and first what was published before; it replaces what was to be published again."""
        self._again = list(again)
        self._again_until = asyncio.get_running_loop().time() + self._resend_window
        self._open.set()
        self._start()

    def close(self) -> None:
        """Go on, but try nothing again that fails."""
        self._closed = True
        self._look_at(math.inf)
        self._open.set()

    def _look_at(self, time: float) -> None:
        """Look then for callers who wait no longer; so one timer serves for all."""
        if self._look_again is not None:
            self._look_again.cancel()
        self._next_look = time
        self._look_again = None if time == math.inf else asyncio.get_running_loop().call_at(time, self._look)

    def _look(self) -> None:
        """Tell callers whose time is over; what was not published yet of theirs is not published any more."""
        now = asyncio.get_running_loop().time()
        late = [put for put in (*self._in_hand, *self._waiting) if now >= put.until]
        for put in late:
            put.settle(self._failure or Unavailable(self._silence()))
        self._waiting = deque(put for put in self._waiting if put.taken or now < put.until)
        self._look_at(min((put.until for put in (*self._in_hand, *self._waiting) if now < put.until), default=math.inf))

    def _silence(self) -> str:
        """Say why nothing is heard of what waits."""
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

    async def _publish(self, entries: Sequence[CommandEntry], puts: Sequence[Put]) -> None:
        failure: Exception | None = None
        self._in_hand = puts
        try:
            deadline = max(put.deadline for put in puts)
            await self._persist(entries, deadline, wait=puts[0].wait, mixed=_are_mixed(puts))
        except ServerFull as error:
            if _are_mixed(puts):
                self._separate(entries, puts)
                return
            failure = error
            self._drop_rest(puts[-1])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            failure = error
            self._drop_rest(puts[-1])
        else:
            self._published(self._partition, entries)
        self._in_hand, self._failure = (), None
        for put in puts:
            if failure or put.all_taken:
                put.settle(failure)

    def _drop_rest(self, failed: Put) -> None:
        """What is left of a failed put must not be applied without what was lost of it."""
        if failed in self._waiting:
            self._waiting.remove(failed)

    def _separate(self, entries: Sequence[CommandEntry], puts: Sequence[Put]) -> None:
        """Put back what was refused together: what only frees memory travels alone on a full server, and first."""
        left = len(entries)
        for put in reversed(puts):
            taken = min(left, put.taken)
            put.taken -= taken
            left -= taken
            if put not in self._waiting and not put.future.done():
                self._waiting.appendleft(put)
        self._in_hand = ()
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
        """Publish what was published before; who waits for the answers learns of a failure by their own time-outs."""
        again = self._again
        try:
            await self._persist((), self._again_until, wait=True)
        except Unavailable:
            # Meanwhile it may have been resumed with another list.
            if again is self._again:
                self._again = []

    async def _persist(
        self, entries: Sequence[CommandEntry], deadline: float, *, wait: bool, mixed: bool = False
    ) -> None:
        """Publish, and first what was published before, again and again until the deadline.

        Raises:
            ServerFull: also before the deadline where the entries are `mixed`, for then some of them may go through.

        """
        backoff = Backoff()
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
                self._tell_once(backoff, error)
                if isinstance(error, ServerFull):
                    # None of them is queued.
                    await self._full_server(error, give_up=mixed and not unknown)
                elif tried and not unknown:
                    # Some may be queued already: for these a refusal means to wait, as long as they are recognised.
                    wait = unknown = True
                    deadline = min(deadline, clock() + self._resend_window)
                failure = error
            else:
                self._full = False
                return
            self._failure = failure
            delay = backoff.failed()
            if self._closed or clock() + delay > deadline:
                raise failure
            self._tell_those_behind(failure)
            await asyncio.sleep(delay)

    def _tell_once(self, backoff: Backoff, failure: Unavailable) -> None:
        if not backoff.failing:
            log.warning("commands cannot be queued", partition=self._partition, error=str(failure))

    async def _publish_all_again(self, deadline: float) -> None:
        """Publish what was published before; nothing to do but after a connection for replies was lost."""
        await self._opened(deadline)
        while self._again:
            await self._publish_again()
            await self._opened(deadline)

    async def _opened(self, deadline: float) -> None:
        """Wait until it is not held."""
        clock = asyncio.get_running_loop().time
        while not self._open.is_set():
            try:
                async with asyncio.timeout_at(min(deadline, clock() + GLANCE)):
                    await self._open.wait()
            except TimeoutError:
                failure = Unavailable(self._silence())
                if clock() >= deadline:
                    raise failure from None
                self._tell_those_behind(failure)

    async def _publish_again(self) -> None:
        """Publish some of what was published before, as long as workers recognise it."""
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

    def _tell_those_behind(self, failure: Unavailable) -> None:
        """Fail what does not wait any longer for its turn."""
        now = asyncio.get_running_loop().time()
        waiting = self._waiting
        self._waiting = deque()
        for put in waiting:
            if put.gives_up(failure, now):
                put.settle(failure)
            else:
                self._waiting.append(put)

    def _first(self, entries: list[CommandEntry]) -> list[CommandEntry]:
        """Return as many as travel together, at least one."""
        size = 0
        for count, entry in enumerate(entries[: self._most_together]):
            size += len(entry.data)
            if count and size > MAX_BYTES_TOGETHER:
                return entries[:count]
        return entries[: self._most_together]

    def _together(self) -> tuple[list[CommandEntry], list[Put]]:
        """Take what travels together, at least one entry, and the puts that it comes from."""
        entries: list[CommandEntry] = []
        puts: list[Put] = []
        size = 0
        while self._waiting and len(entries) < self._most_together:
            put = self._waiting[0]
            entry = put.entries[put.taken]
            size += len(entry.data)
            if entries and (size > MAX_BYTES_TOGETHER or not put.goes_with(puts[0], alike=self._full)):
                break
            entries.append(entry)
            put.taken += 1
            if not puts or puts[-1] is not put:
                puts.append(put)
            if put.all_taken:
                self._waiting.popleft()
        return entries, puts


def _in_time(entries: Sequence[CommandEntry], now: float) -> Sequence[CommandEntry]:
    """Return entries as they are published now: of the time in which they are to be applied, some may have passed."""
    if all(entry.apply_until is None for entry in entries):
        return entries
    return [
        entry
        if entry.apply_until is None
        else replace(entry, apply_within_ms=max(0, math.ceil((entry.apply_until - now) * 1000)))
        for entry in entries
    ]
