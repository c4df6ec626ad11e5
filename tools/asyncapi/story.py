"""The commands of the examples: the life of one session, with ids that are always the same."""

from datetime import UTC, datetime

import msgspec

from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    AnyCommand,
    CreateSession,
    DeleteSession,
    DiscardParked,
    GetSession,
    ListSessions,
    RedriveParked,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.content import ImageContent, TextContent, ToolCallContent, ToolResultContent
from turnstream.domain.models import ChatMessage, ChatMessageRole, SessionConfig
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch

SESSION = "chat-1"
CLIENT = "client-7"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BEGINNING = datetime(2026, 11, 1, 12, tzinfo=UTC)
"""When the first command is queued."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One command; `tells` is what its reply shows."""

    name: str
    tells: str
    command: AnyCommand
    command_id: str
    correlation_id: str | None = None
    traceparent: str | None = None


def command_id(number: int) -> str:
    """Return a command id as producers make them, a UUIDv7, always the same for the same number."""
    return f"019d3f7e-8000-7000-8000-{number:012d}"


_QUESTION = ChatMessage(
    id="m1", role=ChatMessageRole.USER, content=(TextContent("How warm is it in Oslo?"),), created_at=BEGINNING
)
_CALL = ChatMessage(
    id="m2",
    role=ChatMessageRole.ASSISTANT,
    content=(ToolCallContent(tool_call_id="call-1", name="weather", args={"city": "Oslo"}),),
    created_at=BEGINNING,
    metadata={"finishReason": "tool_calls"},
)
_RESULT = ChatMessage(
    id="m3",
    role=ChatMessageRole.TOOL,
    content=(ToolResultContent("call-1", "-3 °C"),),
    created_at=BEGINNING,
    tool_call_id="call-1",
)
_PICTURE = ChatMessage(
    id="m4",
    role=ChatMessageRole.USER,
    content=(
        TextContent("And here?"),
        ImageContent(url="https://example.org/window.png", detail="low", alt_text="A window"),
    ),
    created_at=BEGINNING,
)


def _step(number: int, name: str, tells: str, command: AnyCommand) -> Step:
    return Step(name=name, tells=tells, command=command, command_id=command_id(number))


_CREATED = Step(
    name="created",
    tells="The session was created and has the version 1.",
    command=CreateSession(
        SessionConfig("openai", "gpt-4", system_prompt="Be brief.", temperature=0.5),
        SESSION,
        metadata={"tenant": "acme"},
    ),
    command_id=command_id(1),
    correlation_id="request-17",
    traceparent=TRACEPARENT,
)
_ASKED = _step(2, "message added", "The session has the version 2.", AddMessage(SESSION, _QUESTION, expected_version=1))
_ANSWERED = _step(
    3, "messages added", "Two messages by one command: one version more.", AddMessages(SESSION, (_CALL, _RESULT))
)
_REST = (
    _step(4, "picture added", "A message may have several parts.", AddMessage(SESSION, _PICTURE)),
    _step(
        5,
        "message updated",
        "Fields of a message were replaced.",
        UpdateMessage(SESSION, "m1", updates=ChatMessagePatch(metadata={"rating": 5})),
    ),
    _step(
        6,
        "metrics updated",
        "The tokens were added up and priced.",
        UpdateTokenMetrics(SESSION, prompt_tokens=1_200, completion_tokens=300),
    ),
    _step(
        7,
        "session updated",
        "The temperature was cleared, by null, and the session set inactive.",
        UpdateSession(SESSION, SessionPatch(config=SessionConfigPatch(temperature=None), is_active=False)),
    ),
    _step(
        8,
        "window critical",
        "The tokens took the session over the threshold of its context window: an event of its own says so.",
        UpdateTokenMetrics(SESSION, prompt_tokens=6_000, completion_tokens=100, context_tokens=7_000),
    ),
    _step(
        9,
        "messages removed",
        "`output` holds the removed messages, oldest first; only their ids where the bodies are too large.",
        RemoveMessages(SESSION, last=1),
    ),
    _step(
        9,
        "sent again",
        "The same command under the same id: its outcome once more, and nothing is removed a second time.",
        RemoveMessages(SESSION, last=1),
    ),
    _step(
        9,
        "duplicate-mismatch",
        "Another command under an id that was used before.",
        RemoveMessages(SESSION, message_ids=("m1", "m2")),
    ),
    _step(10, "session", "`output` holds the session, whole; null if there is none.", GetSession(SESSION)),
    _step(11, "page", "`output` holds a page of summaries.", ListSessions(limit=50, provider="openai")),
    _step(12, "message-already-exists", "The session has a message with this id.", AddMessage(SESSION, _QUESTION)),
    _step(
        13,
        "message-not-found",
        "The session has no such message.",
        UpdateMessage(SESSION, "m9", updates=ChatMessagePatch(content=(TextContent("What?"),))),
    ),
    _step(
        14,
        "version-conflict",
        "The session was changed since the version that the producer had seen.",
        AddMessage(SESSION, _PICTURE, expected_version=1),
    ),
    _step(
        15,
        "session-already-exists",
        "The id is taken.",
        CreateSession(SessionConfig("anthropic", "claude-3-opus"), SESSION),
    ),
    _step(
        16,
        "redriven",
        "`output` says how many commands left the queue of the parked session, and how many wait still: here none did.",
        RedriveParked(session_id=SESSION),
    ),
    _step(
        17,
        "discarded",
        "`output` says the same of commands that were taken away.",
        DiscardParked(session_id=SESSION, head=command_id(2), limit=1),
    ),
    _step(18, "deleted", "`output` is true: there was such a session.", DeleteSession(SESSION)),
    _step(19, "not there", "`output` is false: there was none, and nothing happened.", DeleteSession(SESSION)),
    _step(20, "session-not-found", "There is no session with this id.", AddMessage(SESSION, _QUESTION)),
)

STORY: tuple[tuple[Step, ...], ...] = ((_CREATED,), (_ASKED, _ANSWERED), *((step,) for step in _REST))
"""Each group is applied together, as one batch."""
