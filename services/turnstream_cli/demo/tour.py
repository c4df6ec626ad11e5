"""The demo, put together: a throw-away server, two worker processes, four acts, a summary."""

from typing import Final

import typer

from turnstream import Turnstream
from turnstream.adapters.embedded import EmbeddedServer
from turnstream_cli.demo.consumer_failure import survive_consumer
from turnstream_cli.demo.conversation import converse
from turnstream_cli.demo.shared_chat import share_chat
from turnstream_cli.demo.stage import Stage
from turnstream_cli.demo.worker_failure import Load, survive_worker
from turnstream_cli.program_name import program_name
from turnstream_cli.worker_processes import WorkerProcesses, worker_processes
from turnstream_service.arguments import LogLevel

WORKERS: Final = 2

WELCOME: Final = "Turnstream keeps the chats of LLM applications, also when programs write at once, or die."

NEXT_STEPS: Final = (
    ("dev", "a server, and a worker"),
    ("tail", "in another terminal: the events"),
    ('say chat-1 user "Hello" --create', "a message"),
    ("get chat-1", "the chat"),
    ("--help", "everything else"),
)


async def show(load: Load) -> None:
    """Show all acts; whatever happens, nothing that was started outlives them.

    Raises:
        typer.Exit: a check has failed.

    """
    stage = Stage()
    stage.say(WELCOME, "bold")
    async with (
        await EmbeddedServer.start() as server,
        # The server is for seconds: its workers need not warn that it keeps nothing.
        worker_processes(server.url, WORKERS, LogLevel.ERROR, name="worker") as workers,
    ):
        await workers.during(_acts(stage, server.url, workers, load))
    finish(stage)


def finish(stage: Stage) -> None:
    """Print the summary, and what to do next.

    Raises:
        typer.Exit: a check has failed.

    """
    stage.summarize()
    failed = sum(not finding.passed for finding in stage.findings)
    if failed:
        stage.say(f"\n{failed} of {len(stage.findings)} checks FAILED.", "bold red")
        raise typer.Exit(1)
    stage.say("\nWhat next, in this directory (and README.md has ten lines of Python)", "bold cyan")
    name = program_name()
    lines = [(f"{name} {arguments}", meaning) for arguments, meaning in NEXT_STEPS]
    width = max(len(line) for line, _ in lines)
    for line, meaning in lines:
        stage.say(f"  {line:<{width}}  # {meaning}")


async def _acts(stage: Stage, url: str, workers: WorkerProcesses, load: Load) -> None:
    async with Turnstream.connect(url) as ts:
        await converse(stage, ts)
    await share_chat(stage, url)
    stream = await survive_worker(stage, url, workers, load)
    await survive_consumer(stage, url, stream.ids)
