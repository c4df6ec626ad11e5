"""Act two: many conversations at once, written by several producers, then read back and compared."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from turnstream import (
    AddMessage,
    CreateSession,
    SessionConfig,
    TextContent,
    Turnstream,
    assistant_message,
    user_message,
)
from turnstream.commands import Command
from turnstream_service.output import console

CONFIG: Final = SessionConfig(provider="openai", model="gpt-4o")

TOGETHER: Final = 20
"""Sessions whose commands a producer sends at once, before it waits for their outcomes."""

TIMEOUT: Final = 120.0
"""Seconds to wait for an outcome; a slow machine is no failure."""

Result = TypeVar("Result")
Advance = Callable[[int], object]
Work = Callable[[Turnstream, Sequence[str], "Crowd", Advance], Coroutine[Any, Any, Result]]


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many conversations, of how many messages, by how many producers."""

    sessions: int
    messages: int
    producers: int = 4

    @property
    def ids(self) -> list[str]:
        """The ids of the sessions, each a producer's own choice."""
        return [f"crowd-{number:05}" for number in range(1, self.sessions + 1)]

    @property
    def commands(self) -> int:
        """How many commands that takes."""
        return self.sessions * (1 + self.messages)

    def texts(self, session_id: str) -> Iterator[str]:
        """Return what the messages of a session say, in order."""
        return (f"Message {number} of {session_id}" for number in range(1, self.messages + 1))


async def gather_crowd(url: str, crowd: Crowd) -> None:
    """Write all conversations, print how fast that was, and check what is stored.

    Raises:
        typer.Exit: a session does not hold what was written.

    """
    async with AsyncExitStack() as clients:
        producers = [await clients.enter_async_context(Turnstream.connect(url)) for _ in range(crowd.producers)]
        with _progress() as progress:
            writing = progress.add_task("Writing", total=crowd.commands)
            reading = progress.add_task("Reading back", total=crowd.sessions)
            started = perf_counter()
            await _shared(_write, producers, crowd, partial(progress.advance, writing))
            seconds = perf_counter() - started
            differing = await _shared(_differing, producers, crowd, partial(progress.advance, reading))
    typer.echo(
        f"{crowd.commands:,} commands were sent, applied and answered in {seconds:.1f} s: "
        f"{crowd.commands / seconds:,.0f} commands/s."
    )
    _report(crowd, [session_id for some in differing for session_id in some])


async def _shared(work: Work[Result], clients: Sequence[Turnstream], crowd: Crowd, advance: Advance) -> list[Result]:
    """Have clients do some work at the same time, each for its share of the sessions."""
    shares = (crowd.ids[first :: len(clients)] for first in range(len(clients)))
    tasks = (work(client, share, crowd, advance) for client, share in zip(clients, shares, strict=True))
    return await asyncio.gather(*tasks)


async def _write(ts: Turnstream, ids: Sequence[str], crowd: Crowd, advance: Advance) -> None:
    for first in range(0, len(ids), TOGETHER):
        together = ids[first : first + TOGETHER]
        for ticket in await ts.send_many(_commands(together, crowd), timeout=TIMEOUT):
            await ticket
        advance(len(together) * (1 + crowd.messages))


def _commands(ids: Sequence[str], crowd: Crowd) -> Iterator[Command[Any]]:
    """Yield the commands of some conversations, all of them a step further with every round."""
    for session_id in ids:
        yield CreateSession(CONFIG, session_id)
    makers = (user_message, assistant_message)
    for number, texts in enumerate(zip(*(crowd.texts(session_id) for session_id in ids), strict=True)):
        for session_id, text in zip(ids, texts, strict=True):
            yield AddMessage(session_id, makers[number % 2](text))


async def _differing(ts: Turnstream, ids: Sequence[str], crowd: Crowd, advance: Advance) -> list[str]:
    """Return the sessions that do not hold exactly their messages, in order."""
    differing: list[str] = []
    for session_id in ids:
        stored = [message.content for message in await ts.sessions.messages(session_id)]
        if stored != [(TextContent(text),) for text in crowd.texts(session_id)]:
            differing.append(session_id)
        advance(1)
    return differing


def _report(crowd: Crowd, differing: Sequence[str]) -> None:
    if differing:
        typer.echo(f"FAILED: {len(differing)} of {crowd.sessions} sessions differ; the first is {differing[0]}.")
        raise typer.Exit(1)
    typer.echo(
        f"All {crowd.sessions} sessions were read back: each holds exactly its {crowd.messages} messages, in order."
    )


def _progress() -> Progress:
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console(), disable=not sys.stdout.isatty())
