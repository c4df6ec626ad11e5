"""Act one: the conversation of docs/contract.md, Demo."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from turnstream import (
    AddMessage,
    CreateSession,
    ResyncRequired,
    SessionConfig,
    Turnstream,
    Unavailable,
    UpdateTokenMetrics,
    assistant_message,
    user_message,
)
from turnstream.commands import ListSessions
from turnstream.events import ContextWindowCritical, MessageAdded, SessionCreated, TokenMetricsUpdated
from turnstream_cli.demo.stage import Finding, Stage

TITLE: Final = "A chat with a memory: every change is an event, and a filling context window is noticed"
TEXT: Final = "One program writes; every other program can listen. A worker process publishes the events below."

DemoEvent = SessionCreated | MessageAdded | TokenMetricsUpdated | ContextWindowCritical

HEARD: Final[tuple[type[DemoEvent], ...]] = (SessionCreated, MessageAdded, TokenMetricsUpdated, ContextWindowCritical)
"""The classes of event that the demo listens to."""

EXPECTED: Final = 6
"""Events that its commands cause."""

MESSAGE_COUNT: Final = "messageCount is 3: the system prompt, the user's message and the assistant's answer."

DEADLINE: Final = 30.0
"""Seconds within which they arrive."""


async def converse(stage: Stage, ts: Turnstream) -> None:
    """Hold a conversation that fills its context window, and print the events.

    Raises:
        Unavailable: the server does not answer, or the events do not arrive.

    """
    stage.open_act(1, TITLE, TEXT)
    async with _listening(stage, ts) as listening:
        stage.say("Creating session...")
        config = SessionConfig(provider="openai", model="gpt-4", system_prompt="You are a helpful assistant.")
        session = await ts.execute(CreateSession(config))
        stage.say(f"Session created with ID: {session.id}")

        stage.say("Adding user message...")
        await ts.execute(AddMessage(session.id, user_message("Hello, can you help me with a coding question?")))

        stage.say("Adding assistant message...")
        answer = "Of course! I'd be happy to help with your coding question. What would you like to know?"
        await ts.execute(AddMessage(session.id, assistant_message(answer)))

        stage.say("Updating token metrics...")
        await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=50, completion_tokens=80))

        stage.say("Updating token metrics to trigger critical event...")
        await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=7000, completion_tokens=0))

        stage.say("Listing sessions...")
        page = await ts.execute(ListSessions())
        stage.say(f"Found {len(page.sessions)} sessions")
        stage.say(msgspec.json.format(msgspec.json.encode(page.sessions), indent=2).decode())

        events = await _all(listening)
    _summarize(stage, events)


@asynccontextmanager
async def _listening(stage: Stage, ts: Turnstream) -> AsyncGenerator[asyncio.Task[list[DemoEvent]]]:
    """Print events as they arrive; the task ends with the last one that is expected."""
    async with ts.subscribe(*HEARD) as events:

        async def hear() -> list[DemoEvent]:
            heard: list[DemoEvent] = []
            async for event in events:
                if isinstance(event, ResyncRequired):
                    raise Unavailable("The server has lost events of the demo")
                stage.say(f"[Event] {_told(event)}", "cyan")
                heard.append(event)
                if len(heard) == EXPECTED:
                    break
            return heard

        task = asyncio.create_task(hear())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _all(listening: asyncio.Task[list[DemoEvent]]) -> list[DemoEvent]:
    try:
        async with asyncio.timeout(DEADLINE):
            return await listening
    except TimeoutError:
        raise Unavailable(f"Not all of the {EXPECTED} events arrived within {DEADLINE:g} s") from None


def _told(event: DemoEvent) -> str:
    match event:
        case SessionCreated():
            return f"Session created: {event.session.id}"
        case MessageAdded():
            return f"Message added: {event.message.role}"
        case TokenMetricsUpdated():
            return f"Token metrics updated: {event.metrics.total_tokens} tokens total"
        case ContextWindowCritical():
            return f"Context window critical: {round(event.utilization * 100)}% full"


def _summarize(stage: Stage, events: list[DemoEvent]) -> None:
    stage.say("\nEvent Summary:")
    stage.say(f"Total events: {len(events)}")
    stage.say("Event counts by type:")
    for kind, count in Counter(event.type for event in events).items():
        stage.say(f"  {kind}: {count}")
    stage.say("")
    stage.say(MESSAGE_COUNT, "dim")
    critical = next((event for event in events if isinstance(event, ContextWindowCritical)), None)
    full = f"{round(critical.utilization * 100)}% full" if critical else "never"
    result = f"{len(events)} of {EXPECTED} events arrived; warned of a context window that is {full}"
    stage.find(Finding("A chat filled its context window", result, passed=len(events) == EXPECTED and bool(critical)))
