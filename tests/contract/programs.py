"""Any sequence of commands, for the tests by Hypothesis: few names, so that commands meet each other."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from hypothesis import strategies as st
from tests.contract.samples import ENTRY_MS

from turnstream import (
    AddMessage,
    AddMessages,
    ChatMessage,
    ChatMessageRole,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    SessionConfig,
    TextContent,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.commands import UNSET, ChatMessagePatch, SessionConfigPatch, SessionPatch, TokenMetricsPatch
from turnstream.domain.commands import ChangingCommand

CREATED_AT = datetime(2026, 11, 1, tzinfo=UTC)


class Step(msgspec.Struct, frozen=True):
    """A command, some milliseconds after the one before; or again what was sent some steps back, or its id only."""

    command: ChangingCommand
    pause: int
    back: int = 0
    id_only: bool = False


class Sent(msgspec.Struct, frozen=True):
    """A command as the stream holds it."""

    command_id: str
    command: ChangingCommand
    entry_ms: int


class Cut(msgspec.Struct, frozen=True):
    """How many commands are applied together, and whether a new owner without any memory does it."""

    size: int
    new_owner: bool


SESSIONS = ("a", "ü:{x}")
session_ids = st.sampled_from(["a", "a", *SESSIONS])
message_ids = st.sampled_from(["m0", "m1", "m2", "m3", "m4"])
versions = st.sampled_from([None, None, None, None, None, None, None, 0, 2, 4])
metadata = st.none() | st.dictionaries(st.sampled_from(["a", "camelCase", "snake_case"]), st.integers() | st.text())
tokens = st.sampled_from([None, 0, 1, 4_096, 9_000, -1])
models = st.sampled_from(["gpt-4", "gpt-4o", "nobody-knows"])
contents = st.lists(st.builds(TextContent, st.text(max_size=3)), max_size=2).map(tuple)
roles = st.sampled_from(ChatMessageRole)
messages = st.builds(
    ChatMessage, id=message_ids, role=roles, content=contents, created_at=st.just(CREATED_AT), metadata=metadata
)
configs = st.builds(SessionConfig, st.just("openai"), models, system_prompt=st.none() | st.just("Be brief."))
config_patches = st.builds(
    SessionConfigPatch,
    model=st.just(UNSET) | models,
    temperature=st.just(UNSET) | st.none() | st.floats(0, 2),
)
metrics_patches = st.builds(TokenMetricsPatch, prompt_tokens=st.just(UNSET) | st.integers(-1, 9_000))
session_patches = st.builds(
    SessionPatch,
    config=st.just(UNSET) | config_patches,
    metrics=st.just(UNSET) | metrics_patches,
    messages=st.just(UNSET) | st.lists(messages, max_size=3).map(tuple),
    is_active=st.just(UNSET) | st.booleans(),
    metadata=st.just(UNSET) | metadata,
)
message_patches = st.builds(
    ChatMessagePatch,
    role=st.just(UNSET) | roles,
    content=st.just(UNSET) | contents,
    metadata=st.just(UNSET) | metadata,
)
creations = st.builds(CreateSession, configs, session_ids, metadata=metadata, expected_version=versions)
additions = st.builds(AddMessage, session_ids, messages, expected_version=versions)
edits = st.builds(UpdateMessage, session_ids, message_ids, updates=message_patches, expected_version=versions)
commands: st.SearchStrategy[ChangingCommand] = st.one_of(
    *(creations, additions, additions, additions, edits, edits),
    st.builds(AddMessages, session_ids, st.lists(messages, max_size=4).map(tuple), expected_version=versions),
    st.builds(UpdateSession, session_ids, session_patches, expected_version=versions),
    st.builds(
        RemoveMessages, session_ids, message_ids=st.lists(message_ids, max_size=3).map(tuple), expected_version=versions
    ),
    st.builds(RemoveMessages, session_ids, last=st.integers(1, 3), expected_version=versions),
    st.builds(
        UpdateTokenMetrics,
        session_ids,
        prompt_tokens=tokens,
        completion_tokens=tokens,
        context_tokens=tokens,
        expected_version=versions,
    ),
    st.builds(DeleteSession, session_ids, expected_version=versions),
)
back = st.sampled_from([0, 0, 0, 0, 0, 1, 2, 5])
steps = st.builds(Step, commands, st.integers(0, 3), back, st.booleans())
first_messages = AddMessages(
    "a", tuple(ChatMessage(id=f"m{n}", role=ChatMessageRole.USER, content=(), created_at=CREATED_AT) for n in range(3))
)
created = st.builds(Step, st.builds(CreateSession, configs, st.just("a")), st.just(0))
programs = st.tuples(created, st.lists(steps, min_size=12, max_size=40)).map(
    lambda parts: [parts[0], Step(first_messages, 0), *parts[1]],
)
cuts = st.lists(st.builds(Cut, st.integers(1, 8), st.booleans()), min_size=1, max_size=8)


def sent_by(steps: Sequence[Step]) -> list[Sent]:
    """Give each step its command id and the time of its stream entry."""
    sent: list[Sent] = []
    entry_ms = ENTRY_MS
    for number, step in enumerate(steps):
        entry_ms += step.pause
        earlier = sent[-step.back] if 0 < step.back <= number else None
        command = step.command if earlier is None or step.id_only else earlier.command
        sent.append(Sent(earlier.command_id if earlier else f"c{number}", command, entry_ms))
    return sent
