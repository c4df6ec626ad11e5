"""The rules that every command must keep, whatever the session's state."""

import ast
from pathlib import Path
from typing import get_args

import pytest
from tests.unit.given import AT, LATER, MAX_BYTES, SMALL, Happening, added, created, given, message, updated

import turnstream
from turnstream.codec.envelope import encode_command
from turnstream.domain.command_specs import COMMANDS, HANDLERS, OPERATIONS, UNBATCHED, check_rules
from turnstream.domain.commands import (
    QUERIES,
    AddMessage,
    AddMessages,
    AnyCommand,
    ChangingCommand,
    CreateSession,
    DeleteSession,
    GetSession,
    ListSessions,
    Query,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.models import SessionConfig
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch, TokenMetricsPatch
from turnstream.errors import InvalidCommand, SessionNotFound, VersionConflict

PAST: tuple[Happening, ...] = (created(), added("m1"))
"""A session at version 2."""

LONG = "x" * 257


def example(kind: type[ChangingCommand], expected: int | None = None) -> ChangingCommand:
    """Make a command that does something to the session of `PAST` (or, a creation, to no session)."""
    examples: dict[type[ChangingCommand], ChangingCommand] = {
        CreateSession: CreateSession(SMALL, "s", expected_version=expected),
        UpdateSession: UpdateSession("s", SessionPatch(is_active=False), expected_version=expected),
        DeleteSession: DeleteSession("s", expected_version=expected),
        AddMessage: AddMessage("s", message("m2"), expected_version=expected),
        AddMessages: AddMessages("s", (message("m2"), message("m3")), expected_version=expected),
        UpdateMessage: UpdateMessage("s", "m1", updates=ChatMessagePatch(), expected_version=expected),
        RemoveMessages: RemoveMessages("s", last=1, expected_version=expected),
        UpdateTokenMetrics: UpdateTokenMetrics("s", prompt_tokens=1, expected_version=expected),
    }
    return examples[kind]


on_a_session = pytest.mark.parametrize(
    "kind", [kind for kind in get_args(ChangingCommand) if kind is not CreateSession]
)

# ── the tables are complete ──────────────────────────────────────────────────────────────────────────────────────────


def test_every_changing_command_has_a_handler() -> None:
    assert set(HANDLERS) == set(get_args(ChangingCommand))


def test_every_command_has_its_own_wire_type() -> None:
    assert set(COMMANDS.values()) == {*get_args(ChangingCommand), *get_args(Query)}
    assert {*COMMANDS.values(), *OPERATIONS.values()} == set(get_args(AnyCommand))
    assert COMMANDS.keys().isdisjoint(OPERATIONS)
    assert set(get_args(Query)) == set(QUERIES)
    assert set(UNBATCHED) == {*QUERIES, *OPERATIONS.values()}
    assert all((COMMANDS | OPERATIONS)[kind.type] is kind for kind in get_args(AnyCommand))


@pytest.mark.parametrize("kind", get_args(ChangingCommand))
def test_only_the_class_the_spec_and_the_handler_of_a_command_name_it(kind: type[ChangingCommand]) -> None:
    """Everything else derives from the table, so a new command needs nothing else in the library."""
    package = Path(turnstream.__file__).parent
    naming = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if _names(path, kind)}
    # The client gives a new session its id.
    own = {"client/sending/requests.py"} if kind is CreateSession else set[str]()
    assert naming == {"domain/commands.py", "domain/command_specs.py", "domain/handlers.py"} | own


def _names(path: Path, kind: type[ChangingCommand]) -> bool:
    """Return whether a module uses a command's class or wire type; an import alone, to export it, does not count."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    classes = {node.id for node in nodes if isinstance(node, ast.Name)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return kind.__name__ in classes or kind.type in texts


# ── what holds for every command on a session ────────────────────────────────────────────────────────────────────────


@on_a_session
def test_happens_once_at_the_next_version(kind: type[ChangingCommand]) -> None:
    events = given(*PAST).when(example(kind)).events
    assert {(event.version, event.session_id, event.incarnation, event.timestamp) for event in events} == {
        (3, "s", "c1", LATER)
    }


@on_a_session
def test_the_expected_version_is_accepted(kind: type[ChangingCommand]) -> None:
    story = given(*PAST)
    assert story.when(example(kind, expected=2)).events == story.when(example(kind)).events


@on_a_session
@pytest.mark.parametrize("expected", [0, 1, 3])
def test_another_version_is_a_conflict(kind: type[ChangingCommand], expected: int) -> None:
    given(*PAST).when(example(kind, expected)).then_rejected(VersionConflict("s", expected, 2))


@on_a_session
def test_an_inactive_session_accepts_commands(kind: type[ChangingCommand]) -> None:
    assert given(*PAST, updated(is_active=False)).when(example(kind)).events


@on_a_session
def test_time_never_runs_backwards(kind: type[ChangingCommand]) -> None:
    events = given(*PAST).when(example(kind), at=AT.replace(year=2000)).events
    assert {event.timestamp for event in events} == {AT}


@on_a_session
def test_a_session_that_does_not_exist_is_not_found(kind: type[ChangingCommand]) -> None:
    decided = given().when(example(kind))
    if kind is DeleteSession:
        decided.then().gives(output=False)
    else:
        decided.then_rejected(SessionNotFound("s"))


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CONFIG = SessionConfig("openai", "small")
BROKEN: list[tuple[AnyCommand, str]] = [
    (GetSession(""), "$.sessionId"),
    (DeleteSession(""), "$.sessionId"),
    (DeleteSession(LONG), "$.sessionId"),
    (DeleteSession("s", expected_version=-1), "$.expectedVersion"),
    (CreateSession(CONFIG), "$.sessionId"),
    (CreateSession(SessionConfig("openai", "small", temperature=-0.1), "s"), "$.config.temperature"),
    (CreateSession(SessionConfig("openai", "small", temperature=float("nan")), "s"), "$.config.temperature"),
    (CreateSession(SessionConfig("openai", "small", max_tokens=-1), "s"), "$.config.maxTokens"),
    (UpdateSession("s", SessionPatch(config=SessionConfigPatch(temperature=-1))), "$.updates.config.temperature"),
    (UpdateSession("s", SessionPatch(config=SessionConfigPatch(max_tokens=-1))), "$.updates.config.maxTokens"),
    (UpdateSession("s", SessionPatch(messages=(message(""),))), "$.updates.messages[0].id"),
    (UpdateSession("s", SessionPatch(messages=(message("m"), message("m")))), "$.updates.messages[1].id"),
    *[
        (UpdateSession("s", SessionPatch(metrics=metrics)), f"$.updates.metrics.{name}")
        for metrics, name in [
            (TokenMetricsPatch(prompt_tokens=-1), "promptTokens"),
            (TokenMetricsPatch(completion_tokens=-1), "completionTokens"),
            (TokenMetricsPatch(total_tokens=-1), "totalTokens"),
            (TokenMetricsPatch(total_tokens=10**15 + 1), "totalTokens"),
            (TokenMetricsPatch(context_tokens=-1), "contextTokens"),
            (TokenMetricsPatch(estimated_cost=-0.01), "estimatedCost"),
            (TokenMetricsPatch(context_utilization=-0.01), "contextUtilization"),
            (TokenMetricsPatch(max_context_window=0), "maxContextWindow"),
        ]
    ],
    (AddMessage("s", message("")), "$.message.id"),
    (AddMessage("s", message(LONG)), "$.message.id"),
    (AddMessages("s", (message("m1"), message(""))), "$.messages[1].id"),
    (AddMessages("s", (message("m1"), message("m1"))), "$.messages[1].id"),
    (UpdateMessage("s", "", updates=ChatMessagePatch()), "$.messageId"),
    (RemoveMessages("s"), "$"),
    (RemoveMessages("s", message_ids=(), last=1), "$"),
    (RemoveMessages("s", message_ids=("m1", "")), "$.messageIds[1]"),
    (RemoveMessages("s", last=0), "$.last"),
    (RemoveMessages("s", last=5_001), "$.last"),
    (ListSessions(limit=0), "$.limit"),
    (ListSessions(limit=1_001), "$.limit"),
]
KEPT: list[AnyCommand] = [
    DeleteSession("x" * 256),
    CreateSession(SessionConfig("", ""), "s"),
    CreateSession(
        SessionConfig("openai", "small", system_prompt="", temperature=0.0, max_tokens=0, tools=()),
        "s",
        metadata={},
        expected_version=0,
    ),
    CreateSession(SessionConfig("openai", "small", temperature=1e300), "s"),
    UpdateSession("s", SessionPatch()),
    UpdateSession(
        "s", SessionPatch(config=SessionConfigPatch(), metrics=TokenMetricsPatch(), messages=(), metadata={})
    ),
    UpdateSession("s", SessionPatch(config=SessionConfigPatch(temperature=None, max_tokens=None))),
    UpdateSession("s", SessionPatch(metrics=TokenMetricsPatch(context_utilization=9.5, context_tokens=None))),
    AddMessage("s", message("m1", "")),
    AddMessages("s", ()),
    UpdateMessage("s", "m1", updates=ChatMessagePatch(content=())),
    RemoveMessages("s", message_ids=()),
    RemoveMessages("s", last=5_000),
    UpdateTokenMetrics("s"),
    UpdateTokenMetrics("s", prompt_tokens=10**15, completion_tokens=10**15, context_tokens=10**15),
    ListSessions(limit=1_000, cursor="", provider="", model="", is_active=False),
]


@pytest.mark.parametrize(("command", "path"), BROKEN)
def test_a_broken_rule_names_its_field(command: AnyCommand, path: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        check_rules(command)
    assert caught.value.path == path


@pytest.mark.parametrize("command", KEPT)
def test_commands_that_keep_the_rules(command: AnyCommand) -> None:
    check_rules(command)


@pytest.mark.parametrize(("command", "path"), BROKEN)
def test_the_client_refuses_commands_that_a_worker_would_reject(command: AnyCommand, path: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        encode_command(command, MAX_BYTES)
    assert caught.value.path == path


def test_a_rejected_command_names_the_expected_value() -> None:
    with pytest.raises(InvalidCommand, match=r"Expected a number from 1 to 1000, got 0 - at `\$\.limit`"):
        check_rules(ListSessions(limit=0))
