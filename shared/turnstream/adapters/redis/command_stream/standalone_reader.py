"""Reading the command streams of one server: all partitions by two calls that wait there (design §3)."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from turnstream.adapters.redis.connection.connector import raise_for
from turnstream.adapters.redis.connection.pipelined import Transport, pack
from turnstream.adapters.redis.failures import understood
from turnstream.adapters.redis.server import Server
from turnstream.backoff import Faults
from turnstream.errors import KeyUnusable, Unavailable
from turnstream.logging import get_logger
from turnstream.ports import RawEntry

log = get_logger(__name__)

LATELY = 1.0
"""Seconds behind its last command for which a partition is busy."""

TICK = 0.001
"""Seconds by which a timer may come early."""


class StandaloneStreamReader:
    """Two blocking reads: one for the busy partitions, and one that keeps waiting for the idle ones.

    For server and worker a read is the dearer the more streams it names; so those that rest are not named again for
    each command of a busy one.
    """

    def __init__(self, server: Server) -> None:
        """Use a server; connections are opened by the first read."""
        self._server = server
        self._numbers = {keys.commands.encode(): number for number, keys in enumerate(server.keys.partitions)}
        self._ended = asyncio.Event()
        self._busy = _BlockingRead(server, self._ended)
        self._resting = _BlockingRead(server, self._ended)
        self._last_command_at: dict[int, float] = {}
        """Which partitions the busy ones' read is to name, and when they had their last command."""
        self._faults: Faults[int] = Faults()
        """Partitions whose streams cannot be read: one would have the read of all refused."""
        self._waits = False
        self._until = math.inf
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, cursors: Mapping[int, str], count: int, block: float) -> Mapping[int, Sequence[RawEntry]]:
        """Return up to `count` entries a partition behind its cursor; wait up to `block` seconds for the first."""
        self._waits = True
        try:
            readable = await self._readable(cursors) if self._faults else cursors
            await self._busy.open()
            await self._resting.open()
            return await self._found_within(block, readable, count)
        except ResponseError as error:
            self._give_up()
            if len(await self._readable(cursors, all_of_them=True)) == len(cursors):
                raise Unavailable(f"The command streams at {self._server.where} cannot be read: {error}") from None
            return {}
        except Exception:
            # The other one may wait at a server that is not the right one any more.
            self._give_up()
            raise
        finally:
            self._waits = False
            self._until = math.inf

    async def wake(self) -> None:
        """End a `read` that waits: others are owned now, so the busy ones' connection is given up for the next read."""
        if self._waits:
            self._stop_waiting()
            self._busy.give_up()

    async def aclose(self) -> None:
        """Close the connections."""
        await self.wake()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for transport in (self._busy.give_up(), self._resting.give_up()):
            if transport is not None:
                await transport.aclose()

    def _give_up(self) -> None:
        self._busy.give_up()
        self._resting.give_up()

    async def _readable(self, cursors: Mapping[int, str], *, all_of_them: bool = False) -> Mapping[int, str]:
        """Return the cursors of the readable streams; an unreadable one is tried separately after a while."""
        for number in self._faults.failing:
            if number not in cursors:
                self._faults.clear(number)
        tried = [n for n in cursors if all_of_them or (n in self._faults and not self._faults.is_paused(n))]
        failures = await asyncio.gather(*(self._failure(number, cursors[number]) for number in tried))
        for number, failure in zip(tried, failures, strict=True):
            key = self._server.partition(number).commands
            if failure is None:
                if self._faults.clear(number):
                    log.info("command stream can be read again", stream=key)
            elif self._faults.failed(number, failure.reason):
                log.warning("command stream cannot be read", stream=key, error=str(failure))
        return {number: cursor for number, cursor in cursors.items() if number not in self._faults}

    async def _failure(self, number: int, cursor: str) -> KeyUnusable | None:
        key, calls = self._server.partition(number).commands, self._server.calls(number)
        try:
            await understood(calls.call("XREAD", "COUNT", 1, "STREAMS", key, cursor), calls, {key: "stream"})
        except KeyUnusable as failure:
            return failure
        return None

    async def _found_within(
        self, block: float, cursors: Mapping[int, str], count: int
    ) -> dict[int, Sequence[RawEntry]]:
        self._end_after(block)
        while not (found := self._found(cursors)) and self._waits:
            self._ask(cursors, count, block)
            self._ended.clear()
            await self._ended.wait()
        return found

    def _end_after(self, seconds: float) -> None:
        """Wait no longer than that; a timer for each read would cost more than all else here."""
        loop = asyncio.get_running_loop()
        self._until = loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._until:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(self._until, self._check_end)

    def _check_end(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if loop.time() + TICK >= self._until:
            self._stop_waiting()
        elif self._waits:
            self._timer = loop.call_at(self._until, self._check_end)

    def _stop_waiting(self) -> None:
        self._waits = False
        self._ended.set()

    def _ask(self, cursors: Mapping[int, str], count: int, block: float) -> None:
        """Have each partition waited for, by one of the reads at least.

        Raises:
            Unavailable: the server does not answer.

        """
        now = asyncio.get_running_loop().time()
        busy, resting = self._busy, self._resting
        for read in (busy, resting):
            read.check(now)
        if not resting.cursors:
            lately = {number for number, at in self._last_command_at.items() if at > now - LATELY}
            # A blocked read cannot be given more streams: partitions that it misses go to the idle read, busy or not.
            rest = {n: c for n, c in cursors.items() if n not in lately or (busy.cursors and busy.cursors.get(n) != c)}
            resting.start(rest, count, block)
            self._last_command_at = {number: at for number, at in self._last_command_at.items() if number in lately}
        if not busy.cursors:
            others = {number: cursors[number] for number in self._last_command_at if number in cursors}
            # As long as all can be read that is all, and one comparison is cheaper than a look at each.
            if {**resting.cursors, **others} != cursors:
                others = {n: c for n, c in cursors.items() if n in others or resting.cursors.get(n) != c}
            busy.start(others, count, block)

    def _found(self, cursors: Mapping[int, str]) -> dict[int, Sequence[RawEntry]]:
        """Return the entries of both reads that come right after the cursors."""
        found: dict[int, Sequence[RawEntry]] = {}
        for read in (self._resting, self._busy):
            asked = read.cursors
            for key, rows in read.take():
                number = self._numbers[key]
                if asked[number] == cursors.get(number):
                    found[number] = [entry_of(*row) for row in rows]
        if found:
            self._last_command_at.update(dict.fromkeys(found, asyncio.get_running_loop().time()))
        return found


class _BlockingRead:
    """A connection on which one read at a time waits, also between two calls of `StandaloneStreamReader.read`."""

    def __init__(self, server: Server, ended: asyncio.Event) -> None:
        self.cursors: Mapping[int, str] = {}
        """The cursors of the read, until its answer is taken."""
        self._server = server
        self._ended = ended
        self._transport: Transport | None = None
        self._answers: list[Any] = []
        self._deadline = 0.0

    async def open(self) -> None:
        """Open the connection, unless it is open; one that was idle for long may be dead without a sign."""
        if self._transport and not self.cursors and self._idle_for() > self._server.settings.heartbeat:
            self.give_up()
        if self._transport is None:
            connection = await self._server.topology.connect(self._server.keys.workers)
            self._transport = Transport(connection, self._receive, self._receive)

    def start(self, cursors: Mapping[int, str], count: int, block: float) -> None:
        """Ask for the entries after the cursors, if there are any."""
        if cursors and self._transport:
            streams = [self._server.partition(partition).commands for partition in cursors]
            limits = ("COUNT", count, "BLOCK", max(1, int(block * 1000)))
            self._transport.send(pack(("XREAD", *limits, "STREAMS", *streams, *cursors.values())))
            self.cursors = cursors
            self._deadline = asyncio.get_running_loop().time() + block + self._server.settings.heartbeat

    def check(self, now: float) -> None:
        """Raise `Unavailable` where an answer is overdue, by the event loop's clock."""
        if self.cursors and now > self._deadline:
            raise Unavailable(f"The server at {self._server.where} does not answer")

    def take(self) -> Sequence[Any]:
        """Return the answer, if it has come.

        Raises:
            Unavailable: the connection was lost.

        """
        if not self._answers:
            return ()
        came = self._answers.pop(0)
        self.cursors = {}
        if isinstance(came, RedisError):
            raise_for(came)
        return came or ()

    def give_up(self) -> Transport | None:
        """Close the connection with its blocked read, and return it."""
        transport, self._transport, self.cursors = self._transport, None, {}
        self._answers.clear()
        if transport is not None:
            transport.close()
        return transport

    def _idle_for(self) -> float:
        return asyncio.get_running_loop().time() - self._transport.received_at if self._transport else 0.0

    def _receive(self, answer: Any) -> None:  # noqa: ANN401 - whatever the server answers, or why it does not
        self._answers.append(answer)
        self._ended.set()


def entry_of(entry_id: bytes, pairs: Sequence[bytes]) -> RawEntry:
    """Return an entry as `XREAD` gives it."""
    each = iter(pairs)
    return RawEntry(entry_id.decode(), dict(zip(each, each, strict=True)))
