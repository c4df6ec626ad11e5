"""Act three: a worker process is killed while thousands of commands are applied."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from turnstream import (
    AddMessage,
    ChatMessage,
    CreateSession,
    Position,
    ResyncRequired,
    SessionConfig,
    Turnstream,
    assistant_message,
    user_message,
)
from turnstream.commands import Command
from turnstream.errors import Unavailable
from turnstream.events import Event
from turnstream.settings import load_settings
from turnstream_cli.demo.comparison import (
    CREATED,
    Comparison,
    Item,
    compare,
    item_of_event,
    item_of_message,
    items_of_session,
)
from turnstream_cli.demo.stage import Count, Finding, Stage
from turnstream_cli.worker_processes import WorkerProcesses

TITLE: Final = "A worker is killed: nothing is lost, nothing is applied twice"
TEXT: Final = (
    "{producers} programs send {commands:,} commands to {sessions} chats. In the middle one of the two worker "
    "processes is killed with SIGKILL, and gets no chance to clean up."
)

CONFIG: Final = SessionConfig(provider="openai", model="gpt-4o")

PREFIX: Final = "crowd-"
"""The begin of the ids of the sessions of this act."""

VICTIM: Final = "worker-1"
BOTH: Final = 2

TOGETHER: Final = 20
"""Sessions whose commands a producer sends at once, before it waits for their outcomes."""

KILLED_AFTER: Final = 0.4
"""The part of the commands that is applied when the worker is killed."""

TIMEOUT: Final = 120.0
"""Seconds to wait for an outcome; a slow machine is no failure."""

POLL: Final = 0.02
"""Seconds between two looks at the owners of the partitions."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many conversations, of how many messages, by how many producers."""

    sessions: int
    messages: int
    producers: int = 4
    conversations: Mapping[str, Sequence[ChatMessage]] = field(init=False)

    def __post_init__(self) -> None:
        """Make the messages, which are what is compared in the end."""
        object.__setattr__(self, "conversations", {session_id: self._talk(session_id) for session_id in self._ids})

    @property
    def commands(self) -> int:
        """How many commands that takes."""
        return self.sessions * (1 + self.messages)

    @property
    def items(self) -> dict[str, list[Item]]:
        """What has to be found in the end, of each session in order."""
        return {session_id: [CREATED, *map(item_of_message, talk)] for session_id, talk in self.conversations.items()}

    @property
    def _ids(self) -> list[str]:
        return [f"{PREFIX}{number:05}" for number in range(1, self.sessions + 1)]

    def _talk(self, session_id: str) -> list[ChatMessage]:
        makers = (user_message, assistant_message)
        return [makers[number % 2](f"Message {number + 1} of {session_id}") for number in range(self.messages)]


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The death of a worker: how many commands were applied by then, and seconds until others had its partitions."""

    applied: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EventStream:
    """The events of this act as the event log has them: by session, in order."""

    items: Mapping[str, Sequence[Item]]
    ids: Mapping[str, Sequence[str]]


async def survive_worker(stage: Stage, url: str, workers: WorkerProcesses, load: Load) -> EventStream:
    """Send the load, kill a worker in the middle, compare what is stored and published with what was sent."""
    stage.open_act(3, TITLE, TEXT.format(producers=load.producers, commands=load.commands, sessions=load.sessions))
    async with AsyncExitStack() as clients:
        producers = [await clients.enter_async_context(Turnstream.connect(url)) for _ in range(load.producers)]
        observer = await clients.enter_async_context(Turnstream.connect(url))
        await _both_own(observer)
        start = await observer.position()
        with stage.counting("Applied", load.commands) as applied:
            killing = asyncio.create_task(_kill(stage, observer, workers, applied))
            try:
                await _write(producers, load, applied)
                take_over = await killing
            finally:
                killing.cancel()
        with stage.counting("Compared", 2 * load.commands) as compared:
            stored = await read_sessions(observer, load, compared)
            stream = await read_events(observer, start, compared)
    stage.find(check_load(stage, load, take_over, stored, stream))
    return stream


def check_load(
    stage: Stage, load: Load, take_over: TakeOver, stored: Mapping[str, Sequence[Item]], stream: EventStream
) -> Finding:
    """Compare the stored sessions, and the event stream, with the commands that were sent."""
    sent = load.items
    sources: dict[str, Comparison] = {
        "stored sessions": compare(sent, stored),
        "event stream": compare(sent, stream.items),
    }
    for source, comparison in sources.items():
        stage.say(f"{source:<15}  {comparison.sent:,} commands sent: {comparison}")
    first, second = sources.values()
    worst = first.worst(second)
    return Finding(
        f"A worker was killed after {take_over.applied:,} of {load.commands:,} commands",
        f"{worst}; the other worker took over in {take_over.seconds:.1f} s",
        passed=worst.passed,
    )


async def read_sessions(ts: Turnstream, load: Load, compared: Count) -> dict[str, list[Item]]:
    """Return what the stored sessions hold."""
    stored: dict[str, list[Item]] = {}
    for session_id in load.conversations:
        stored[session_id] = items_of_session(await ts.sessions.get(session_id))
        compared.add(len(stored[session_id]))
    return stored


async def read_events(ts: Turnstream, start: Position, compared: Count) -> EventStream:
    """Return the events since a position.

    Raises:
        Unavailable: the server has lost events.

    """
    items: dict[str, list[Item]] = {}
    ids: dict[str, list[str]] = {}
    async with ts.subscribe(Event, start=start) as events:
        async for event in events.until(await ts.position()):
            if isinstance(event, ResyncRequired) or event.meta is None:
                raise Unavailable("The server has lost events of the demo")
            items.setdefault(event.session_id, []).append(item_of_event(event))
            ids.setdefault(event.session_id, []).append(event.meta.event_id)
            compared.add()
    return EventStream(items, ids)


async def _write(producers: Sequence[Turnstream], load: Load, applied: Count) -> None:
    """Let all producers write at the same time, each its share of the sessions."""
    ids = list(load.conversations)
    shares = (ids[first :: len(producers)] for first in range(len(producers)))
    await asyncio.gather(*(_write_share(ts, share, load, applied) for ts, share in zip(producers, shares, strict=True)))


async def _write_share(ts: Turnstream, ids: Sequence[str], load: Load, applied: Count) -> None:
    for first in range(0, len(ids), TOGETHER):
        for ticket in await ts.send_many(commands_of(ids[first : first + TOGETHER], load), timeout=TIMEOUT):
            await ticket
            applied.add()


def commands_of(ids: Sequence[str], load: Load) -> Iterator[Command[Any]]:
    """Yield the commands of some conversations, all of them a step further with every round."""
    for session_id in ids:
        yield CreateSession(CONFIG, session_id)
    for messages in zip(*(load.conversations[session_id] for session_id in ids), strict=True):
        for session_id, message in zip(ids, messages, strict=True):
            yield AddMessage(session_id, message)


async def _kill(stage: Stage, ts: Turnstream, workers: WorkerProcesses, applied: Count) -> TakeOver:
    """Kill the first worker when part of the commands is applied, and wait until the other has its partitions."""
    while applied.done < KILLED_AFTER * applied.total:  # noqa: ASYNC110 - a counter that a progress bar shows
        await asyncio.sleep(POLL)
    partitions, owned = load_settings().partitions, (await _owned(ts)).get(VICTIM, 0)
    done, pid = applied.done, workers.kill(0)
    killed = perf_counter()
    stage.say(f"SIGKILL to {VICTIM} (process {pid}) after {done:,} commands: it owned {owned} partitions", "bold red")
    while await _owned_by_others(ts) < partitions:  # noqa: ASYNC110 - leases are read, nothing announces them
        await asyncio.sleep(POLL)
    seconds = perf_counter() - killed
    stage.say(f"the other worker owns all {partitions} partitions, {seconds:.1f} s later", "bold green")
    return TakeOver(done, seconds)


async def _both_own(ts: Turnstream) -> None:
    """Wait until both workers have partitions."""
    while len([count for count in (await _owned(ts)).values() if count]) < BOTH:  # noqa: ASYNC110 - as above
        await asyncio.sleep(POLL)


async def _owned_by_others(ts: Turnstream) -> int:
    return sum(count for name, count in (await _owned(ts)).items() if name != VICTIM)


async def _owned(ts: Turnstream) -> dict[str, int]:
    """Return the number of partitions of each live worker."""
    return {worker.name: worker.partitions async for worker in ts.admin.workers.list()}
