"""The table of commands: the rules and the handler of each, the messages that it needs, and the output of its reply.

To add a command: its class in `domain/commands.py`, its handler in `domain/handlers.py`, and a `CommandSpec` here
(CONTRIBUTING.md). Everything else derives from the table. A rule holds whatever the state of the session; types were
checked when the command was decoded. A broken rule is an `InvalidCommand` with the JSON path of the field. The client
checks before it sends, and the worker checks again.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    AnyCommand,
    ChangingCommand,
    CreateSession,
    DeleteSession,
    DiscardParked,
    GetSession,
    ListSessions,
    ParkedCommands,
    QueueProgress,
    RedriveParked,
    RemovedMessage,
    RemoveMessages,
    SessionCommand,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.handlers import (
    Context,
    Decision,
    SessionView,
    add_message,
    add_messages,
    create_session,
    delete_session,
    remove_messages,
    update_message,
    update_session,
    update_token_metrics,
)
from turnstream.domain.limits import MAX_ID_LENGTH, MAX_ITEMS, MAX_PAGE, MAX_TOKENS
from turnstream.domain.models import ChatMessage, Session, SessionConfig, SessionPage
from turnstream.domain.patches import SessionConfigPatch, TokenMetricsPatch
from turnstream.errors import InvalidCommand

TOKEN_FIELDS = ("prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens", "context_tokens")

CommandT = TypeVar("CommandT")


class OutputSpec(msgspec.Struct, frozen=True):
    """The output that a reply carries besides the session's version.

    Args:
        types: what its JSON is decoded as; the first type that fits.
        absent: the output of a reply without one.

    """

    types: tuple[Any, ...]
    absent: Any


class CommandSpec(msgspec.Struct, Generic[CommandT], frozen=True):
    """A command with all that belongs to it. Its handler and rules take this command: a type checker refuses others.

    Args:
        command: the class of the command.
        rule: raises `InvalidCommand` for the first rule that the command breaks, apart from those of all commands.
        handler: decides the command. `None` for a query, which changes nothing, and for an operation on the queue of a
            parked session: neither is decided together with other commands.
        message_ids: the stored messages that the handler looks at.
        appends: the messages that the command appends. They are taken for new, and looked up only after a commit has
            found one that is not.
        tail: how many of the last messages the handler may look at.
        output: the output of the reply, which `execute` returns; without it `execute` returns the session.
        frees: whether the command only frees memory, so that it is applied on a full server as well.

    """

    command: type[CommandT]
    rule: Callable[[CommandT], None] | None = None
    handler: Callable[[SessionView, CommandT, Context], Decision] | None = None
    message_ids: Callable[[CommandT], Iterable[str]] | None = None
    appends: Callable[[CommandT], tuple[ChatMessage, ...]] | None = None
    tail: Callable[[CommandT], int] | None = None
    output: OutputSpec | None = None
    frees: bool = False


def decide(view: SessionView, command: ChangingCommand, context: Context) -> Decision:
    """Decide a command on a session.

    Returns:
        The events that happen, and what else the command gives back.

    Raises:
        Rejected: the command breaks a rule or does not fit the session's state; nothing happens.

    """
    check_rules(command)
    return HANDLERS[type(command)](view, command, context)


def check_rules(command: AnyCommand) -> None:
    """Raise `InvalidCommand` for the first rule that the command breaks."""
    if isinstance(command, SessionCommand):
        _check_id("$.sessionId", command.session_id)
        if command.expected_version is not None:
            _check_range("$.expectedVersion", command.expected_version, 0, math.inf)
    elif isinstance(command, ParkedCommands):
        _check_id("$.sessionId", command.session_id)
        _check_range("$.limit", command.limit, 1, math.inf)
    rule = RULES.get(type(command))
    if rule:
        rule(command)


def _check_id(path: str, value: str | None) -> None:
    if value is None:
        raise InvalidCommand(path, "Object missing required field `sessionId`")
    if not value:
        raise InvalidCommand(path, "Expected an id, got an empty string")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidCommand(path, f"Expected an id of at most {MAX_ID_LENGTH} characters, got {len(value)}")


def _check_range(path: str, value: float | UnsetType | None, low: float, high: float) -> None:
    """Check a number if it is given; NaN is in no range."""
    if value is None or value is UNSET or low <= value <= high:
        return
    wanted = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
    raise InvalidCommand(path, f"Expected a number {wanted}, got {value}")


def _check_fields(path: str, struct: msgspec.Struct, names: Iterable[str], high: float = math.inf) -> None:
    for name in names:
        _check_range(f"{path}.{_camel(name)}", getattr(struct, name), 0, high)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _check_config(path: str, config: SessionConfig | SessionConfigPatch) -> None:
    _check_fields(path, config, ("temperature", "max_tokens"))


def _check_messages(path: str, messages: tuple[ChatMessage, ...]) -> None:
    seen: set[str] = set()
    for index, message in enumerate(messages):
        _check_id(f"{path}[{index}].id", message.id)
        if message.id in seen:
            raise InvalidCommand(f"{path}[{index}].id", f"Message id {message.id} is there twice")
        seen.add(message.id)


def _create_session(command: CreateSession) -> None:
    _check_config("$.config", command.config)


def _update_session(command: UpdateSession) -> None:
    updates = command.updates
    if updates.config is not UNSET:
        _check_config("$.updates.config", updates.config)
    if updates.metrics is not UNSET:
        _check_metrics(updates.metrics)
    if updates.messages is not UNSET:
        _check_messages("$.updates.messages", updates.messages)


def _check_metrics(metrics: TokenMetricsPatch) -> None:
    path = "$.updates.metrics"
    counts = ("prompt_tokens", "completion_tokens", "total_tokens", "context_tokens")
    _check_fields(path, metrics, counts, MAX_TOKENS)
    _check_fields(path, metrics, ("estimated_cost", "context_utilization"))
    _check_range(f"{path}.maxContextWindow", metrics.max_context_window, 1, MAX_TOKENS)


def _add_message(command: AddMessage) -> None:
    _check_id("$.message.id", command.message.id)


def _add_messages(command: AddMessages) -> None:
    _check_messages("$.messages", command.messages)


def _update_message(command: UpdateMessage) -> None:
    _check_id("$.messageId", command.message_id)


def _remove_messages(command: RemoveMessages) -> None:
    if (command.message_ids is None) == (command.last is None):
        raise InvalidCommand("$", "Expected either `messageIds` or `last`")
    _check_range("$.last", command.last, 1, MAX_ITEMS)
    for index, message_id in enumerate(command.message_ids or ()):
        _check_id(f"$.messageIds[{index}]", message_id)


def _update_token_metrics(command: UpdateTokenMetrics) -> None:
    _check_fields("$", command, TOKEN_FIELDS, MAX_TOKENS)
    cached = (command.cache_read_tokens or 0) + (command.cache_write_tokens or 0)
    if cached > (command.prompt_tokens or 0):
        reason = f"Cached tokens are parts of the prompt's: {cached} of {command.prompt_tokens or 0}"
        raise InvalidCommand("$.promptTokens", reason)


def _list_sessions(command: ListSessions) -> None:
    _check_range("$.limit", command.limit, 1, MAX_PAGE)


_PROGRESS = OutputSpec((QueueProgress,), absent=QueueProgress(done=0, left=0))
_REMOVED = OutputSpec((tuple[ChatMessage, ...], tuple[RemovedMessage, ...]), absent=())

# Each spec is made before the table is: inside the table, whose specs are of any command, a checker would take any
# handler.
_create = CommandSpec(CreateSession, _create_session, create_session)
_get = CommandSpec(GetSession, output=OutputSpec((Session, None), absent=None))
_update = CommandSpec(UpdateSession, _update_session, update_session)
_delete = CommandSpec(DeleteSession, None, delete_session, output=OutputSpec((bool,), absent=False), frees=True)
_add = CommandSpec(AddMessage, _add_message, add_message, appends=lambda command: (command.message,))
_add_many = CommandSpec(AddMessages, _add_messages, add_messages, appends=lambda command: command.messages)
_change = CommandSpec(UpdateMessage, _update_message, update_message, lambda command: (command.message_id,))
_remove = CommandSpec(
    RemoveMessages,
    _remove_messages,
    remove_messages,
    lambda command: command.message_ids or (),
    # Each removal of a batch may reach into the tail that the next one asks for, so the tails add up.
    tail=lambda command: command.last or len(command.message_ids or ()),
    output=_REMOVED,
    frees=True,
)
_count = CommandSpec(UpdateTokenMetrics, _update_token_metrics, update_token_metrics)
_list = CommandSpec(ListSessions, _list_sessions, output=OutputSpec((SessionPage,), absent=None))
_redrive = CommandSpec(RedriveParked, output=_PROGRESS)
_discard = CommandSpec(DiscardParked, output=_PROGRESS, frees=True)

_SPECS: tuple[CommandSpec[Any], ...] = (
    *(_create, _get, _update, _delete, _add, _add_many, _change, _remove, _count, _list),
    *(_redrive, _discard),
)

COMMAND_SPECS: Mapping[type[Any], CommandSpec[Any]] = {spec.command: spec for spec in _SPECS}
"""Every command's spec, by the class of the command."""

_by_type: dict[str, type[AnyCommand]] = {spec.command.type: spec.command for spec in _SPECS}
OPERATIONS = {name: command for name, command in _by_type.items() if issubclass(command, ParkedCommands)}
"""The commands of operators by wire type; clients have `ts.admin.parked` for them."""
COMMANDS = {name: command for name, command in _by_type.items() if name not in OPERATIONS}
"""The commands of applications by wire type."""
UNBATCHED: tuple[type[AnyCommand], ...] = tuple(spec.command for spec in _SPECS if not spec.handler)
"""The commands that are not decided together with others."""
FREEING: frozenset[str] = frozenset(spec.command.type for spec in _SPECS if spec.frees)
"""The wire types of the commands that only free memory."""

HANDLERS: Mapping[type[Any], Callable[[SessionView, Any, Context], Decision]] = {
    command: spec.handler for command, spec in COMMAND_SPECS.items() if spec.handler
}
RULES: Mapping[type[Any], Callable[[Any], None]] = {
    command: spec.rule for command, spec in COMMAND_SPECS.items() if spec.rule
}
"""Parts of the table, for a quick look-up."""
