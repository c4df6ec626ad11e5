"""Compares what is stored of a session with the fold of its events (design §7, I2); names fields, never contents."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from turnstream.domain.events import AnyEvent, MessageAdded, SessionCreated, SessionUpdated
from turnstream.domain.evolution import evolve_header, evolve_messages
from turnstream.domain.models import ChatMessage, Entity, SessionHeader
from turnstream.domain.patches import ChatMessagePatch, apply_patch

DIFFERS = "differs"


class Difference(Entity, frozen=True):
    """A difference between the stored session and its events: the path of a field, and the problem."""

    path: str
    problem: str


class FoldedMessages:
    """The messages that events lead to, in order; `None` for one that must be there and of which no more is known."""

    def __init__(self, messages: Sequence[ChatMessage] = ()) -> None:
        """Start with these messages, oldest first."""
        self.by_id: dict[str, ChatMessage | None] = {message.id: message for message in messages}

    def clear(self) -> None:
        """Forget all messages."""
        self.by_id.clear()

    def append(self, message: ChatMessage, position: int) -> None:  # noqa: ARG002 - a dict keeps its order by itself
        """Append a message."""
        self.by_id[message.id] = message

    def update(self, message_id: str, updates: ChatMessagePatch) -> None:
        """Change fields of a message."""
        known = self.by_id.get(message_id)
        self.by_id[message_id] = apply_patch(known, updates) if known else None

    def remove(self, message_id: str) -> None:
        """Take a message away."""
        self.by_id.pop(message_id, None)


def compare(header: SessionHeader, messages: Sequence[ChatMessage], events: Sequence[AnyEvent]) -> Iterator[Difference]:
    """Yield what differs between a stored session and the fold of its events.

    If the first of them is not the session's creation, they are folded over the stored session, without the messages
    that they add: consistent events change nothing then, and fields that no event sets are not compared.
    """
    if header.message_count != len(messages):
        yield Difference("messageCount", DIFFERS)
    if not events:
        return
    yield from _gaps(events)
    complete = isinstance(events[0], SessionCreated)
    added = set(_added(events))
    folded = FoldedMessages(() if complete else [message for message in messages if message.id not in added])
    state = None if complete else replace(header, version=events[0].version)
    for event in events:
        evolve_messages(folded, state, event)
        state = evolve_header(state, event)
    if state:
        last, position = events[-1], state.next_position if complete else header.next_position
        state = replace(state, id=last.session_id, incarnation=last.incarnation, next_position=position)
        yield from fields_that_differ(replace(state, message_count=header.message_count), header)
    yield from _messages_that_differ(folded.by_id, {message.id: message for message in messages})


def fields_that_differ(expected: msgspec.Struct, stored: msgspec.Struct, prefix: str = "") -> Iterator[Difference]:
    """Yield the fields in which two values of a type differ."""
    for name, encoded in zip(expected.__struct_fields__, expected.__struct_encode_fields__, strict=True):
        one, other = getattr(expected, name), getattr(stored, name)
        path = f"{prefix}{encoded}"
        if isinstance(one, msgspec.Struct) and isinstance(other, msgspec.Struct):
            yield from fields_that_differ(one, other, f"{path}.")
        elif one != other:
            yield Difference(path, DIFFERS)


def _gaps(events: Sequence[AnyEvent]) -> Iterator[Difference]:
    for before, event in pairwise(events):
        if event.version - before.version not in {0, 1}:
            yield Difference("events", f"version {before.version} is followed by {event.version}")
        elif event.meta and before.meta and event.meta.previous_of_session != before.meta.sequence:
            yield Difference("events", f"one is missing before the sequence {event.meta.sequence}")


def _added(events: Sequence[AnyEvent]) -> Iterator[str]:
    for event in events:
        match event:
            case MessageAdded(message=message):
                yield message.id
            case SessionUpdated(updates=updates) if updates.messages is not UNSET:
                yield from (message.id for message in updates.messages)
            case _:
                pass


def _messages_that_differ(
    expected: dict[str, ChatMessage | None], stored: dict[str, ChatMessage]
) -> Iterator[Difference]:
    for message_id, message in expected.items():
        if message_id not in stored:
            yield Difference(f"messages[{message_id}]", "is not stored")
        elif message:
            yield from fields_that_differ(message, stored[message_id], f"messages[{message_id}].")
    for message_id in stored.keys() - expected.keys():
        yield Difference(f"messages[{message_id}]", "is stored, but no event has added it")
    if [i for i in expected if i in stored] != [i for i in stored if i in expected]:
        yield Difference("messages", "are in another order")
