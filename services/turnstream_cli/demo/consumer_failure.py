"""Act four: a consumer process is killed, and the next one resumes at its checkpoints."""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from turnstream import Turnstream
from turnstream.errors import Unavailable
from turnstream_cli.demo.comparison import compare
from turnstream_cli.demo.stage import Count, Finding, Stage
from turnstream_cli.demo.worker_failure import PREFIX
from turnstream_cli.worker_processes import service_command, worker_environment

TITLE: Final = "A consumer is killed: the next one resumes, and no event is missed"
TEXT: Final = (
    "A program of yours handles the {events:,} events of those chats, for example to bill them. "
    "It is killed with SIGKILL while it handles one of them, and started again."
)

NAME: Final = "demo-billing"
"""The durable subscription."""

KILLED_AFTER: Final = 0.5
"""The part of the events after which the consumer is killed."""

POLL: Final = 0.1
"""Seconds between two looks at the lag."""

Handled = list[tuple[str, str]]
"""The events that a consumer has handled, in order: session and event id."""


async def survive_consumer(stage: Stage, url: str, expected: Mapping[str, Sequence[str]]) -> None:
    """Kill a consumer in the middle of the events, start another, and compare what both handled with all events.

    Args:
        stage: where to print.
        url: the server.
        expected: the event ids of each session, in order.

    """
    events = sum(map(len, expected.values()))
    stage.open_act(4, TITLE, TEXT.format(events=events))
    with stage.counting("Handled", events) as count:
        first = await _killed(stage, url, count, int(events * KILLED_AFTER))
        second = await _resumed(url, count, first)
        stage.say(f"a second consumer resumed at the last checkpoints, and handled {len(second):,} events")
    stage.find(check_consumers(expected, first, second))


def check_consumers(expected: Mapping[str, Sequence[str]], first: Handled, second: Handled) -> Finding:
    """Compare the events that two consumers handled with those that there were; the second may repeat some."""
    handled: dict[str, list[str]] = {}
    for session_id, event_id in dict.fromkeys([*first, *second]):
        handled.setdefault(session_id, []).append(event_id)
    found = compare(expected, handled)
    again = len(first) + len(second) - len({*first, *second})
    order = f"{found.misordered} sessions out of order" if found.misordered else "order kept"
    unknown = f", {found.unknown} unknown" if found.unknown else ""
    return Finding(
        f"A consumer was killed after {len(first):,} of {found.sent:,} events",
        f"{found.lost:,} missed{unknown}, {order}; {again:,} after the last checkpoints handled again",
        passed=found.passed,
    )


async def _killed(stage: Stage, url: str, count: Count, after: int) -> Handled:
    """Kill a consumer after some events; return those that it handled."""
    async with _consumer(url, str(after)) as consumer:
        handled: Handled = []
        while len(handled) < after:
            handled += await _next(consumer)
            count.add(len(handled) - count.done)
        consumer.kill()
        stage.say(f"SIGKILL to the consumer (process {consumer.pid}) after {len(handled):,} events", "bold red")
        return handled


async def _resumed(url: str, count: Count, before: Handled) -> Handled:
    """Let another consumer handle the rest; return what it handled."""
    async with _consumer(url) as consumer, Turnstream.connect(url) as ts:
        stopping = asyncio.create_task(_stop_at_end(ts, consumer))
        try:
            handled: Handled = []
            known = set(before)
            while lines := await _next(consumer, may_end=stopping):
                handled += lines
                known.update(lines)
                count.add(len(known) - count.done)
            await stopping
        finally:
            stopping.cancel()
        return handled


async def _stop_at_end(ts: Turnstream, consumer: Process) -> None:
    """Close the standard input of the consumer when its checkpoints have reached the end of every event log."""
    while await _lags(ts):  # noqa: ASYNC110 - a lag is read, nothing announces it
        await asyncio.sleep(POLL)
    if consumer.stdin:
        consumer.stdin.close()


async def _lags(ts: Turnstream) -> bool:
    return any([each.mark is None or each.behind > 0 async for each in ts.admin.consumers.lag(NAME)])


async def _next(consumer: Process, may_end: asyncio.Task[None] | None = None) -> Handled:
    """Return the event that the consumer prints next, as a list; an empty one when it has ended as it should.

    Raises:
        Unavailable: it has ended although it was not asked to.

    """
    assert consumer.stdout  # noqa: S101 - for the type checkers: it is a pipe
    line = await consumer.stdout.readline()
    if line:
        return [parse_line(line)]
    if may_end is None or not may_end.done():
        raise Unavailable(f"A consumer ended with status {await consumer.wait()}: what it said stands above")
    return []


def parse_line(line: bytes) -> tuple[str, str]:
    """Return the session and the event id that a line of a consumer names."""
    session_id, _, event_id = line.decode().strip().partition(" ")
    return session_id, event_id


@asynccontextmanager
async def _consumer(url: str, *arguments: str) -> AsyncGenerator[Process]:
    """Run a consumer process, which ends with this one however this one ends."""
    process = await asyncio.create_subprocess_exec(
        *service_command("turnstream_cli.demo.consumer_process", NAME, PREFIX, *arguments),
        env=worker_environment(url),
        stdin=PIPE,
        stdout=PIPE,
        # A separate process group: Ctrl-C reaches the demo only.
        process_group=0,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
