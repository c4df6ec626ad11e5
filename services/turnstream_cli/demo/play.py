"""The demo, put together: a throw-away server, two worker processes, two acts."""

from typing import Final

import typer

from turnstream import Turnstream
from turnstream.adapters.embedded import EmbeddedServer
from turnstream_cli.demo.conversation import converse
from turnstream_cli.demo.crowd import Crowd, gather_crowd
from turnstream_cli.worker_processes import worker_processes
from turnstream_service.arguments import LogLevel

WORKERS: Final = 2

FIRST_ACT: Final = """\
── Act one: one conversation. A server and two worker processes of its own; the events come by pub/sub. ──
"""

SECOND_ACT: Final = """
── Act two: {sessions} conversations at the same time, {messages} messages each, from {producers} producers. ──
"""

WHAT_NEXT: Final = """
── What to try next ──
  turnstream dev       a server that keeps its data, and workers; then, in another terminal:
  turnstream tail      its events, as they happen
  turnstream send create-session '{"config": {"provider": "openai", "model": "gpt-4"}}'
  turnstream --help    everything else; README.md has the ten lines of Python that use it from your own program
"""


async def play(crowd: Crowd) -> None:
    """Play both acts; whatever happens, nothing that was started outlives them."""
    async with (
        await EmbeddedServer.start() as server,
        # The server is for minutes: its workers need not warn that it keeps nothing.
        worker_processes(server.url, WORKERS, LogLevel.ERROR) as workers,
    ):
        await workers.during(_acts(server.url, crowd))
    typer.echo(WHAT_NEXT, nl=False)


async def _acts(url: str, crowd: Crowd) -> None:
    typer.echo(FIRST_ACT)
    async with Turnstream.connect(url) as ts:
        await converse(ts)
    heading = SECOND_ACT.format(sessions=crowd.sessions, messages=crowd.messages, producers=crowd.producers)
    typer.echo(heading)
    await gather_crowd(url, crowd)
