"""Act two: two programs write to one chat at the same time."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from turnstream import (
    AddMessage,
    ChatMessage,
    CreateSession,
    ResyncRequired,
    SessionConfig,
    Ticket,
    Turnstream,
    Unavailable,
    assistant_message,
    user_message,
)
from turnstream.events import Event
from turnstream_cli.demo.comparison import CREATED, Item, compare, item_of_event, item_of_message, items_of_session
from turnstream_cli.demo.stage import Finding, Stage

MESSAGES: Final = 12
"""Messages of each writer."""

TITLE: Final = "Two programs write to one chat, and neither waits for the other"
TEXT: Final = f"A web server (W) and an agent (A) send {MESSAGES} messages each to the same chat. No locks, no retries."

COLOURS: Final = {"W": "blue", "A": "magenta"}


@dataclass(frozen=True, slots=True)
class Writer:
    """A program with a connection of its own, and the messages that it sends."""

    name: str
    ts: Turnstream
    messages: Sequence[ChatMessage]

    async def write(self, session_id: str) -> list[Ticket]:
        """Send the messages one after the other."""
        return [await self.ts.send(AddMessage(session_id, message)) for message in self.messages]


async def share_chat(stage: Stage, url: str) -> None:
    """Let two writers write, then compare the chat and its events with what they sent."""
    stage.open_act(2, TITLE, TEXT)
    async with Turnstream.connect(url) as web, Turnstream.connect(url) as agent:
        session = await web.execute(CreateSession(SessionConfig("openai", "gpt-4o")))
        async with web.subscribe(session_id=session.id, start="beginning") as events:
            asked = [user_message(f"Question {number}") for number in range(MESSAGES)]
            answered = [assistant_message(f"Step {number}") for number in range(MESSAGES)]
            writers = (Writer("W", web, asked), Writer("A", agent, answered))
            for tickets in await asyncio.gather(*(writer.write(session.id) for writer in writers)):
                for ticket in tickets:
                    await ticket
            heard = [event async for event in events.until(await web.position())]
        stored = items_of_session(await web.sessions.get(session.id))
    stage.say("The chat, message by message:")
    authors = {item_of_message(message)[0]: writer.name for writer in writers for message in writer.messages}
    turns = [authors[message_id] for message_id, _ in stored if message_id in authors]
    stage.show_turns([(name, COLOURS[name]) for name in turns])
    stage.find(check_chat(writers_items(writers), stored, events_items(heard)))


def writers_items(writers: Sequence[Writer]) -> dict[str, list[Item]]:
    """Return what each writer sent, in its order."""
    return {writer.name: [item_of_message(message) for message in writer.messages] for writer in writers}


def events_items(heard: Sequence[Event | ResyncRequired]) -> list[Item]:
    """Return what the events report.

    Raises:
        Unavailable: the server has lost events.

    """
    events = [event for event in heard if not isinstance(event, ResyncRequired)]
    if len(events) < len(heard):
        raise Unavailable("The server has lost events of the demo")
    return [item_of_event(event) for event in events]


def check_chat(sent: Mapping[str, Sequence[Item]], stored: Sequence[Item], heard: Sequence[Item]) -> Finding:
    """Compare the stored chat with each writer's messages, and with the events that a subscriber received."""
    chat = list(stored)
    by_writer = {name: [item for item in chat if item in set(items)] for name, items in sent.items()}
    everything = {item for items in sent.values() for item in items} | {CREATED}
    by_writer["?"] = [item for item in chat if item not in everything]
    comparison = compare(sent, by_writer)
    same = chat == list(heard)
    events = "subscribers saw the same order" if same else "subscribers saw ANOTHER order"
    result = f"{comparison.sent} messages: {comparison}; {events}"
    return Finding("Two programs wrote to one chat", result, passed=comparison.passed and same)
