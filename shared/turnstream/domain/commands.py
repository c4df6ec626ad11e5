"""The commands (docs/contract.md, Commands); each carries the type of its result.

At most the first two fields of a command have a position; the others are keywords. The wire type (`add-message`) is
outside of a command's data, in the stream entry that carries it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar, get_args

import msgspec

from turnstream.domain.json_input import convert
from turnstream.domain.limits import AtMostMaxItems
from turnstream.domain.models import ChatMessage, Entity, Session, SessionConfig, SessionPage, freeze_sequences
from turnstream.domain.patches import ChatMessagePatch, SessionPatch
from turnstream.domain.wire_form import WireValue, variant
from turnstream.pydantic_schema import any_of, json_schema_of

Result = TypeVar("Result", covariant=True)

_encode = msgspec.json.Encoder().encode


class Command(WireValue, Generic[Result], frozen=True, rename="camel"):
    """Something that a producer wants done; `Result` is what `execute` returns for it."""

    type: ClassVar[str]

    def to_json(self) -> bytes:
        """Return the command's data as JSON, with its `type` as first field; `Command.from_json` reads it."""
        return _encode({"type": self.type, **msgspec.to_builtins(self)})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the command of a wire form with its `type`; called on `Command`, its class is that of the `type`.

        `Command` knows the commands of producers, not those of operators. Rules apart from the fields' types are
        checked when the command is sent.

        Raises:
            InvalidCommand: a field is missing, has the wrong type, or is nested too deep, or the type is not known or
                that of another class.

        """
        variants = _PRODUCER_COMMANDS if issubclass(Command, cls) else {cls.type: cls}
        return convert(data, variant(data, variants, cls))

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, handler: Any) -> Any:  # noqa: ANN401 - pydantic's protocol
        """Return the schema of the wire form with its `type`; of `Command` that of every producer's command."""
        if cls is Command:
            return any_of(_PRODUCER_COMMANDS.values(), handler)
        schema = json_schema_of(cls, handler)
        schema["properties"] = {"type": {"const": cls.type}, **schema["properties"]}
        schema["required"] = ["type", *schema.get("required", ())]
        return schema


class SessionCommand(Command[Result], Generic[Result], frozen=True, kw_only=True):
    """A command on one session; `expected_version` rejects it unless the session has that version (0: none yet)."""

    expected_version: int | None = None


class _OnSession(SessionCommand[Result], Generic[Result], frozen=True):
    """A command on the session of this id."""

    session_id: str


class RemovedMessage(Entity, frozen=True):
    """The id of a removed message whose body was too large to be kept with the outcome."""

    id: str


class _NewSession(SessionCommand[Session], frozen=True):
    """The fields of a `CreateSession` that have a position."""

    config: SessionConfig
    session_id: str | None = None


class CreateSession(_NewSession, frozen=True, kw_only=True):
    """Create a session; without a `session_id` the client makes one. A system prompt becomes its first message."""

    type: ClassVar[str] = "create-session"
    metadata: dict[str, Any] | None = None


class GetSession(_OnSession[Session | None], frozen=True):
    """Read a session whole; `None` if there is none."""

    type: ClassVar[str] = "get-session"


class UpdateSession(_OnSession[Session], frozen=True):
    """Change a session's config, metrics, messages, activity or metadata."""

    type: ClassVar[str] = "update-session"
    updates: SessionPatch


class DeleteSession(_OnSession[bool], frozen=True):
    """Delete a session; `False`, and no event, if there is none."""

    type: ClassVar[str] = "delete-session"


class AddMessage(_OnSession[Session], frozen=True):
    """Append a message."""

    type: ClassVar[str] = "add-message"
    message: ChatMessage


class AddMessages(_OnSession[Session], frozen=True):
    """Append several messages, all or none."""

    type: ClassVar[str] = "add-messages"
    messages: Annotated[tuple[ChatMessage, ...], AtMostMaxItems]

    def __post_init__(self) -> None:
        """Accept lists."""
        freeze_sequences(self, "messages")


class _OnMessage(_OnSession[Session], frozen=True):
    """The fields of an `UpdateMessage` that have a position."""

    message_id: str


class UpdateMessage(_OnMessage, frozen=True, kw_only=True):
    """Change fields of a message."""

    type: ClassVar[str] = "update-message"
    updates: ChatMessagePatch


class RemoveMessages(_OnSession[tuple[ChatMessage | RemovedMessage, ...]], frozen=True, kw_only=True):
    """Remove messages by their ids, all or none, or the `last` ones (as many as there are)."""

    type: ClassVar[str] = "remove-messages"
    message_ids: Annotated[tuple[str, ...], AtMostMaxItems] | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        """Accept lists."""
        freeze_sequences(self, "message_ids")


class UpdateTokenMetrics(_OnSession[Session], frozen=True, kw_only=True):
    """Add the tokens of one call of the model; the cached ones are parts of the prompt's, for the price only.

    `context_tokens` is the size of the last prompt; where it is sent the utilisation follows it (design §9).
    """

    type: ClassVar[str] = "update-token-metrics"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    context_tokens: int | None = None


class ListSessions(Command[SessionPage], frozen=True, kw_only=True):
    """List sessions, most recently updated first; `cursor` is the `next_cursor` of the page before."""

    type: ClassVar[str] = "list-sessions"
    limit: int = 100
    cursor: str | None = None
    provider: str | None = None
    model: str | None = None
    is_active: bool | None = None


class QueueProgress(Entity, frozen=True, kw_only=True):
    """The result of redriving or discarding the queue of a parked session.

    `done` commands have left it, `left` wait still; `error` says what keeps the first of them from being applied, and
    is `None` if nothing does.
    """

    done: int
    left: int
    error: str | None = None


class ParkedCommands(Command[QueueProgress], frozen=True, kw_only=True):
    """An operator's command on the queue of a parked session, applied by the partition's owner (design §4).

    `head` refuses it unless that is the id of the queue's first command; at most `limit` commands leave the queue, and
    no more than fit into a batch.
    """

    session_id: str
    head: str | None = None
    limit: int | None = None


class RedriveParked(ParkedCommands, frozen=True, kw_only=True):
    """Apply parked commands from the head of the queue; the session is parked no more when none is left."""

    type: ClassVar[str] = "redrive-parked"


class DiscardParked(ParkedCommands, frozen=True, kw_only=True):
    """Take commands from the head of the queue without applying them."""

    type: ClassVar[str] = "discard-parked"


CommandOutput = bool | tuple[ChatMessage | RemovedMessage, ...] | None
"""The output of a command besides the session: whether it deleted, or the messages that it removed."""

ChangingCommand = (
    CreateSession
    | UpdateSession
    | DeleteSession
    | AddMessage
    | AddMessages
    | UpdateMessage
    | RemoveMessages
    | UpdateTokenMetrics
)
Query = GetSession | ListSessions
Operation = RedriveParked | DiscardParked
AnyCommand = ChangingCommand | Query | Operation
_PRODUCER_COMMANDS: dict[str, type[ChangingCommand | Query]] = {
    command.type: command for command in get_args(ChangingCommand | Query)
}
QUERIES = (GetSession, ListSessions)
"""The classes of `Query`, for a quick isinstance."""
ON_SESSIONS = (SessionCommand, ParkedCommands)
"""The classes of commands that belong to a session, and so to its partition."""
