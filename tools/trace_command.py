"""`make trace`: the road that one `execute(AddMessage)` takes through the package, function by function.

On the embedded server, with one worker and one live subscriber, all in this process, one command is traced after some
others. The road has legs:

    producer   from the call to the bytes of the command, as they leave for its stream
    queued     from the server's answer to that, to the client's wait for the reply
    worker     from the bytes of the entry, as the worker reads them, to the bytes of the commit script
    event      from the bytes of the event to the subscriber's iterator
    reply      from the bytes of the reply to the result

What belongs to a leg is found by cause and not by time. A leg begins with a call or with bytes that name the command's
message. From then on it has what the event loop runs for it: a callback that was scheduled in a leg belongs to the same
leg. So no heartbeat, lease, reminder or timer is counted, whenever it comes. Several commands are traced, and the
shortest road that two of them took is printed; two runs print the same.

Only functions of the package are counted, each time that they are entered; a coroutine that continues is not entered
again. A comprehension is a part of the function around it. Functions without a file or in C are not seen.
"""

import argparse
import asyncio
import dis
import re
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Final, NamedTuple, cast

import msgspec
from rich.console import Console
from rich.table import Table

import turnstream
from turnstream import AddMessage, CreateSession, SessionConfig, Settings, Turnstream, user_message
from turnstream.adapters.embedded import start_embedded_server
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.commit.session_store import RedisStore
from turnstream.application.processor import PartitionProcessor
from turnstream.catalogue import load_catalogue
from turnstream.client.replies.pending_commands import AwaitedReply
from turnstream.events import MessageAdded
from turnstream.worker.worker import Worker

PACKAGE: Final = Path(turnstream.__file__).parent

WARM_UP: Final = 10
"""Commands that go before those that are traced, so that nothing is set up for the first time."""

TRACED: Final = 9
"""Commands that are traced; the shortest road that two of them took counts."""

QUIET_S: Final = 0.05
"""Seconds between two commands, in which the worker comes to rest."""

PRODUCER, QUEUED, WORKER, EVENT, REPLY = "producer", "queued", "worker", "event", "reply"

PROCESS: Final = PartitionProcessor.process.__code__
COMMIT: Final = RedisStore.commit.__code__
WAIT: Final = AwaitedReply.before.__code__
CALL_SOON: Final = asyncio.BaseEventLoop.call_soon.__code__
RUN_HANDLE: Final = cast("CodeType", vars(asyncio.Handle)["_run"].__code__)
COMMAND_ID: Final = re.compile(rb'"commandId":"([^"]+)"')


class Entry(NamedTuple):
    """A function that was entered, and how many of the package's functions were under way then, it included."""

    file: str
    function: str
    depth: int


Walk = tuple[Entry, ...]


class Figures(msgspec.Struct, frozen=True):
    """How far a walk goes: a move is from one file to another, a return a move to a file that was left before."""

    entries: int
    distinct: int
    files: int
    moves: int
    returns: int
    depth: int

    @classmethod
    def of(cls, walk: Walk) -> "Figures":
        """Count them."""
        files = {entry.file for entry in walk}
        moves = sum(before.file != after.file for before, after in pairwise(walk))
        return cls(
            entries=len(walk),
            distinct=len({(entry.file, entry.function) for entry in walk}),
            files=len(files),
            moves=moves,
            returns=moves - max(0, len(files) - 1),
            depth=max((entry.depth for entry in walk), default=0),
        )


class Segment(msgspec.Struct, frozen=True):
    """What was entered in one file between two moves; `again` if the file was left before."""

    file: str
    functions: list[str]
    again: bool


class Tracer:
    """Follows one command, known by the id of its message, from leg to leg."""

    def __init__(self, message_id: str) -> None:
        """Follow the command that carries this message."""
        self._walks: dict[str, list[Entry]] = {leg: [] for leg in (PRODUCER, QUEUED, WORKER, EVENT, REPLY)}
        self._message_id = message_id.encode()
        self._command_id = b""
        self._client: object = None
        self._leg: str | None = None
        self._ended: set[str] = set()
        self._scheduled: dict[object, str] = {}

    def start(self) -> None:
        """Trace from now on; what the caller does is the first leg."""
        self._leg = PRODUCER
        sys.setprofile(self._profile)

    def end(self, leg: str) -> None:
        """Count nothing more of a leg."""
        self._ended.add(leg)
        if self._leg == leg:
            self._leg = None

    def stop(self) -> tuple[Walk, ...]:
        """Trace no more; return the legs."""
        sys.setprofile(None)
        return tuple(map(tuple, self._walks.values()))

    def _profile(self, frame: FrameType, event: str, value: object) -> None:
        code = frame.f_code
        if event == "call":
            if code is RUN_HANDLE:
                leg = self._scheduled.pop(frame.f_locals["self"], None)
                self._leg = None if leg in self._ended else leg
            elif code.co_name == "data_received":
                self._received(*_arguments(frame))
            elif code.co_name == "write":
                self._written(*_arguments(frame))
            self._enter(frame)
        elif event == "return":
            if code is CALL_SOON and self._leg:
                self._scheduled[value] = self._leg
            elif code is RUN_HANDLE:
                self._leg = None

    def _received(self, protocol: object, data: bytes) -> None:
        """Begin a leg, if these are bytes of the command."""
        if self._message_id in data:
            leg = EVENT if WORKER in self._ended else WORKER
        elif self._command_id and self._command_id in data:
            leg = REPLY
        elif protocol is self._client and not self._walks[QUEUED]:
            leg = QUEUED
        else:
            return
        self._leg = None if leg in self._ended else leg

    def _written(self, transport: object, data: bytes) -> None:
        """End a leg, if these are bytes of the command."""
        if self._leg is None or not isinstance(transport, asyncio.Transport) or self._message_id not in data:
            return
        if self._leg == PRODUCER:
            self._client = transport.get_protocol()
        elif found := COMMAND_ID.search(data):
            self._command_id = found[1]
        self.end(self._leg)

    def _enter(self, frame: FrameType) -> None:
        if self._leg is None:
            return
        file = _file(frame.f_code)
        if file and frame.f_lasti <= _beginning(frame.f_code):
            self._walks[self._leg].append(Entry(file, frame.f_code.co_qualname.replace("<locals>.", ""), _depth(frame)))
            if frame.f_code is WAIT and self._leg == QUEUED:
                # The reply may be there already: then the result follows without a turn of the event loop.
                self.end(QUEUED)
                self._leg = REPLY


class Road(msgspec.Struct, frozen=True):
    """The legs of a command's road."""

    producer: Walk
    queued: Walk
    worker: Walk
    event: Walk
    reply: Walk

    def parts(self) -> dict[str, Walk]:
        """Return the legs, what they are made of and what they make together, by what each is."""
        names = [(entry.file, entry.function) for entry in self.worker]
        process, commit = (names.index((_file(code), code.co_qualname)) for code in (PROCESS, COMMIT))
        whole = self.producer + self.queued + self.worker
        return {
            "producer: execute → bytes of the command": self.producer,
            "queued: the server's answer → the wait for the reply": self.queued,
            "worker: bytes of the entry → bytes of the commit": self.worker,
            "  of it: process → commit of the store": self.worker[process:commit],
            "  of it: commit of the store → bytes": self.worker[commit:],
            "whole: execute → bytes of the commit": whole,
            "event: bytes → iterator": self.event,
            "reply: bytes → result": self.reply,
            "all, with event and reply": whole + self.event + self.reply,
        }


def segments(walk: Walk) -> list[Segment]:
    """Cut a walk at its moves."""
    seen: set[str] = set()
    found: list[Segment] = []
    for file, entries in groupby(walk, lambda entry: entry.file):
        found.append(Segment(file, [entry.function for entry in entries], file in seen))
        seen.add(file)
    return found


async def trace() -> Road:
    """Trace some commands and return the shortest road that two of them took.

    Raises:
        RuntimeError: no two of them took the same road.

    """
    with start_embedded_server() as server:
        settings = Settings().without_credentials().at(server.url)
        async with _worker(settings), Turnstream.connect(settings=settings) as ts:
            roads = await _roads(ts)
    found = [road for road, count in Counter(roads).items() if count > 1]
    if not found:
        raise RuntimeError("No two commands took the same road")
    return Road(*min(found, key=lambda road: sum(map(len, road))))


async def _roads(ts: Turnstream) -> list[tuple[Walk, ...]]:
    session = await ts.execute(CreateSession(SessionConfig("openai", "gpt-4")))
    roads: list[tuple[Walk, ...]] = []
    async with ts.subscribe(MessageAdded) as events:
        for number in range(WARM_UP + TRACED):
            await asyncio.sleep(QUIET_S)
            command = AddMessage(session.id, user_message(f"Message {number}"))
            tracer = Tracer(command.message.id)
            arrived = asyncio.create_task(_arrival(events, tracer))
            await asyncio.sleep(QUIET_S)
            if number >= WARM_UP:
                tracer.start()
            await ts.execute(command)
            tracer.end(REPLY)
            await arrived
            roads.append(tracer.stop())
    return roads[WARM_UP:]


async def _arrival(events: AsyncIterator[object], tracer: Tracer) -> None:
    """Wait for an event as a subscriber does."""
    await anext(events)
    tracer.end(EVENT)


@asynccontextmanager
async def _worker(settings: Settings) -> AsyncGenerator[None]:
    """Run a worker in this event loop, on connections of its own."""
    backend = await RedisBackend.open(settings, "trace", works=True)
    worker = Worker(backend, settings, load_catalogue(settings.catalogue_file))
    task = asyncio.create_task(worker.run())
    try:
        await worker.ready.wait()
        yield
    finally:
        worker.stop()
        await task
        await backend.aclose()


def _arguments(frame: FrameType) -> tuple[object, bytes]:
    """Return the two arguments of a method that takes bytes; none where they are something else."""
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    given = [cast("object", frame.f_locals[name]) for name in names]
    data = given[1] if len(given) > 1 else b""
    is_bytes = isinstance(data, bytes | bytearray | memoryview)
    return given[0] if given else None, bytes(cast("bytes", data)) if is_bytes else b""


@cache
def _file(code: CodeType) -> str:
    """Return the file of a function of the package; "" for what is not counted."""
    path = Path(code.co_filename)
    if not path.is_relative_to(PACKAGE) or (code.co_name.startswith("<") and code.co_name != "<lambda>"):
        return ""
    return path.relative_to(PACKAGE).as_posix()


@cache
def _beginning(code: CodeType) -> int:
    """Return the instruction at which a function is entered; a coroutine goes on at a later one."""
    return next(each.offset for each in dis.get_instructions(code) if each.opname == "RESUME")


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth += bool(_file(frame.f_code))
        frame = frame.f_back
    return depth


def show(parts: dict[str, Walk], *, with_road: bool) -> None:
    """Print the figures, and the road if it is wanted."""
    console = Console(soft_wrap=True)
    table = Table("leg", *Figures.__struct_fields__, title="The road of execute(AddMessage)")
    for name, walk in parts.items():
        table.add_row(name, *map(str, msgspec.structs.astuple(Figures.of(walk))))
    console.print(table)
    if with_road:
        for name in [name for name in parts if not name.startswith((" ", "whole", "all"))]:
            console.print(f"\n{name}", style="bold")
            for number, segment in enumerate(segments(parts[name]), start=1):
                mark = "again" if segment.again else ""
                console.print(f"{number:4} {mark:5} {segment.file}: {', '.join(segment.functions)}", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trace and print."""
    parser = argparse.ArgumentParser(description="Print the road of a command through the package's files.")
    parser.add_argument("--road", action="store_true", help="print also which functions are entered, in their order")
    parser.add_argument("--json", action="store_true", help="print figures and road as JSON")
    options = parser.parse_args(arguments)
    parts = asyncio.run(trace()).parts()
    if options.json:
        found = {name.strip(): {"figures": Figures.of(walk), "road": segments(walk)} for name, walk in parts.items()}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    else:
        show(parts, with_road=options.road)


if __name__ == "__main__":
    main()
