"""Where the tests of the core start.

    given(created(), added("m1")).when(RemoveMessages("s", last=1)).then(removed("m1"))

`given` takes what happened to the session `s`, one version each; `when` decides a command on it; `then` expects events.
Below it is one partition in memory with its owner; arbitrary valid values, for properties, come last.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from functools import cache, partial
from typing import Any, Self, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec import inspect
from tests import builders

from turnstream.adapters.memory import MemoryBackend
from turnstream.application.commands.decoder import CommandDecoder
from turnstream.application.commands.owner_memory import OwnerMemory, ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.application.queries.query_handler import QueryHandler
from turnstream.catalogue import ModelCatalogue
from turnstream.catalogue.table_file import ModelEntry
from turnstream.codec.envelope import encode_command, encode_entry
from turnstream.codec.records import milliseconds
from turnstream.domain import commands, events
from turnstream.domain.command_specs import COMMANDS, decide
from turnstream.domain.commands import AnyCommand, ChangingCommand, CommandOutput
from turnstream.domain.events import AnyEvent
from turnstream.domain.evolution import Messages, evolve_header, evolve_messages
from turnstream.domain.handlers import Context, Decision, EventFactory
from turnstream.domain.models import (
    ChatMessage,
    Session,
    SessionConfig,
    SessionHeader,
    TokenMetrics,
    session_of,
)
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch
from turnstream.domain.prices import Catalogue, PriceSource
from turnstream.errors import Rejected
from turnstream.ports import CommandEntry, RawEntry, SessionStore

AT = builders.AT
"""When everything given has happened."""
LATER = AT + timedelta(minutes=1)
"""When a command is decided."""
MAX_BYTES = 1024 * 1024

CATALOGUE = ModelCatalogue(
    {
        "small": ModelEntry(window=1_000, prompt=1e6, completion=2e6, cache_read=0.5e6, cache_write=1.5e6),
        "large": ModelEntry(window=10_000, prompt=10e6, completion=20e6),
        "acme/small": ModelEntry(window=2_000),
    },
)
"""Two models with prices in whole dollars a token: 1 and 2 for the small one, 10 and 20 for the large one."""
SMALL = SessionConfig("openai", "small")
FRESH = TokenMetrics(
    prompt_tokens=0,
    completion_tokens=0,
    total_tokens=0,
    estimated_cost=0.0,
    context_utilization=0.0,
    max_context_window=1_000,
    price_source=PriceSource.OVERRIDE,
)
"""The metrics of a new session of the small model."""


message = builders.message


# ── given, when, then ────────────────────────────────────────────────────────────────────────────────────────────────

Happening = Callable[[EventFactory], AnyEvent]
"""An event that still waits for its session, version and time."""


def created(
    config: SessionConfig = SMALL,
    *,
    metrics: TokenMetrics = FRESH,
    messages: tuple[ChatMessage, ...] = (),
    metadata: dict[str, Any] | None = None,
) -> Happening:
    def happen(factory: EventFactory) -> AnyEvent:
        time = factory.timestamp
        session = Session(
            id=factory.session_id,
            config=config,
            messages=messages,
            metrics=metrics,
            created_at=time,
            updated_at=time,
            is_active=True,
            version=factory.version,
            metadata=metadata,
        )
        return factory.create(events.SessionCreated, session=session)

    return happen


def updated(**updates: Any) -> Happening:  # noqa: ANN401 - the fields of SessionPatch
    return lambda factory: factory.create(events.SessionUpdated, updates=SessionPatch(**updates))


def config_updated(**config: Any) -> Happening:  # noqa: ANN401 - the fields of SessionConfigPatch
    return lambda factory: factory.create(events.SessionConfigUpdated, config=SessionConfigPatch(**config))


def deleted() -> Happening:
    return lambda factory: factory.create(events.SessionDeleted)


def added(new: ChatMessage | str) -> Happening:
    return lambda factory: factory.create(events.MessageAdded, message=message(new) if isinstance(new, str) else new)


def message_updated(message_id: str, updates: ChatMessagePatch) -> Happening:
    return lambda factory: factory.create(events.MessageUpdated, message_id=message_id, updates=updates)


def removed(message_id: str) -> Happening:
    return lambda factory: factory.create(events.MessageRemoved, message_id=message_id)


def measured(metrics: TokenMetrics) -> Happening:
    return lambda factory: factory.create(events.TokenMetricsUpdated, metrics=metrics)


def critical(utilization: float, window: int, *, crossed: bool) -> Happening:
    return lambda factory: factory.create(
        events.ContextWindowCritical, utilization=utilization, max_context_window=window, crossed=crossed
    )


class Story:
    """A session as events have left it: a `SessionView` that knows everything."""

    def __init__(self, past: Iterable[AnyEvent] = ()) -> None:
        self.past: list[AnyEvent] = []
        self.header: SessionHeader | None = None
        self._messages = Messages()
        for event in past:
            self.happen(event)

    def happen(self, event: AnyEvent) -> None:
        evolve_messages(self._messages, self.header, event)
        self.header = evolve_header(self.header, event)
        self.past.append(event)

    def message(self, message_id: str) -> ChatMessage | None:
        return self._messages.by_id.get(message_id)

    def tail(self, count: int) -> tuple[ChatMessage, ...]:
        everything = tuple(self._messages.by_id.values())
        return everything[max(len(everything) - count, 0) :]

    @property
    def session(self) -> Session | None:
        return session_of(self.header, tuple(self._messages.by_id.values())) if self.header else None

    def when(self, command: ChangingCommand, *, at: datetime = LATER, command_id: str = "c9") -> "Decided":
        context = Context(command_id, at, CATALOGUE)
        header = self.header
        fresh = EventFactory("s", incarnation_of(command_id, at), 1, at)
        factory = EventFactory("s", header.incarnation, header.version + 1, at) if header else fresh
        try:
            return Decided(self, factory, decide(self, command, context))
        except Rejected as rejection:
            return Decided(self, factory, rejection)


class Decided:
    """The result of a command."""

    def __init__(self, story: Story, factory: EventFactory, decided: Decision | Rejected) -> None:
        self._story = story
        self._stamp = factory
        self._decided = decided

    @property
    def decision(self) -> Decision:
        if isinstance(self._decided, Rejected):
            raise self._decided
        return self._decided

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        return self.decision.events

    def then(self, *expected: Happening) -> Self:
        """Expect exactly these events, of the next version and the command's time."""
        assert list(self.events) == [happening(self._stamp) for happening in expected]
        return self

    def gives(self, output: CommandOutput) -> Self:
        """Expect this output besides the session."""
        assert self.decision.output == output
        return self

    def then_rejected(self, expected: Rejected) -> None:
        """Expect this rejection, with its fields."""
        assert isinstance(self._decided, Rejected), self._decided
        assert (type(self._decided), self._decided.fields) == (type(expected), expected.fields)

    @property
    def session(self) -> Session:
        """The session after the command."""
        session = Story([*self._story.past, *self.events]).session
        assert session is not None
        return session


def incarnation_of(command_id: str, at: datetime) -> str:
    """Return the incarnation of a session that this command has created."""
    return f"{command_id}-{milliseconds(at)}"


def given(*happenings: Happening) -> Story:
    """Apply these to the session `s`, one version each; a creation that is not the first recreates it."""
    story = Story()
    for number, happening in enumerate(happenings, start=1):
        header = story.header
        factory = (
            EventFactory("s", header.incarnation, header.version + 1, AT)
            if header
            else EventFactory("s", f"c{number}", 1, AT)
        )
        story.happen(happening(factory))
    return story


# ── a partition in memory, and its owner ─────────────────────────────────────────────────────────────────────────────

REPLY_TO = "ts:0:reply:client"


def entry(command: AnyCommand, command_id: str = "c1", reply_to: str | None = REPLY_TO) -> CommandEntry:
    """Put a command into its envelope."""
    return CommandEntry(command_id, command.type, encode_command(command, MAX_BYTES), reply_to)


def fields_of(sent: CommandEntry) -> dict[bytes, bytes]:
    """Return a stream entry's fields as a server keeps them."""
    words = [word if isinstance(word, bytes) else word.encode() for word in encode_entry(sent)]
    return dict(zip(words[::2], words[1::2], strict=True))


def raw(sent: CommandEntry, number: int = 1) -> RawEntry:
    """Return an entry as a worker reads it, the numbered one a second."""
    return RawEntry(f"{milliseconds(AT) + 1_000 * number}-0", fields_of(sent))


ROOM = ParkingLimits()


async def owner(
    backend: MemoryBackend,
    store: SessionStore | None = None,
    catalogue: Catalogue = CATALOGUE,
    cached: int = 100,
    limits: ParkingLimits = ROOM,
) -> PartitionProcessor:
    """Take partition 0 and return what applies its commands."""
    state = await backend.ownership.take(0, "worker-1")
    assert state is not None
    intake = CommandDecoder(0, backend.partitions, MAX_BYTES, partial(backend.channels.is_reply_channel, 0))
    answers = QueryHandler(backend.reader, backend.partitions)
    memory = OwnerMemory.empty(backend.quarantine, 0, cached, limits)
    return PartitionProcessor(state, intake, store or backend.store, answers, catalogue, memory)


# ── arbitrary valid values, made from the types themselves ───────────────────────────────────────────────────────────

Value = TypeVar("Value", bound=msgspec.Struct)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Of properties: a busy machine is no failure."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
counts = st.integers(0, 10**15)
time_zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
times = st.datetimes(datetime(1970, 1, 1), timezones=time_zones)  # noqa: DTZ001 - the time zones come beside it
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=6,
)
IDS = {"id", "session_id", "message_id", "message_ids"}
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "expected_version": st.none() | st.integers(0, 2**70),
    "max_context_window": st.integers(1, 10**15),
    "limit": st.integers(1, 1_000),
    "last": st.integers(1, 5_000),
    "prompt_tokens": st.integers(2_000, 10**15),
    "cache_read_tokens": st.none() | st.integers(0, 1_000),
    "cache_write_tokens": st.none() | st.integers(0, 1_000),
}
"""Values narrower than the rules of commands."""


@cache
def arbitrary(kind: type[Value], *left_out: str, **given_fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Value]:
    """Return valid values of a struct; its optional fields are there or not."""
    known = inspect.type_info(kind)
    assert isinstance(known, inspect.StructType)
    fields = {
        field.name: _field(field) for field in known.fields if field.name not in {*left_out, *given_fields}
    } | given_fields
    optional = {field.name for field in known.fields if not field.required} - set(given_fields)
    required = {name: values for name, values in fields.items() if name not in optional}
    return st.fixed_dictionaries(
        required, optional={name: values for name, values in fields.items() if name in optional}
    ).map(lambda values: kind(**values))


def arbitrary_command(kind: type[AnyCommand]) -> st.SearchStrategy[AnyCommand]:
    if kind is commands.RemoveMessages:
        named = arbitrary(commands.RemoveMessages, "last", message_ids=st.lists(ids, max_size=3))
        return named | arbitrary(commands.RemoveMessages, "message_ids", last=BY_NAME["last"])
    if kind is commands.UpdateTokenMetrics:
        return arbitrary(kind, prompt_tokens=BY_NAME["prompt_tokens"])
    return arbitrary(kind, session_id=ids) if kind is commands.CreateSession else arbitrary(kind)


def _field(field: inspect.Field) -> st.SearchStrategy[Any]:
    if field.name in BY_NAME:
        return BY_NAME[field.name]
    return _ids(field.type) if field.name in IDS else _values(field.type)


def _ids(kind: inspect.Type) -> st.SearchStrategy[Any]:
    return ids if isinstance(kind, inspect.StrType) else st.lists(ids, max_size=3)


def _values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.UnionType(types=types):
            values = st.one_of([_values(each) for each in types])
        case inspect.LiteralType(values=literals):
            values = st.sampled_from(literals)
        case inspect.EnumType(cls=cls):
            values = st.sampled_from(list(cls))
        case inspect.VarTupleType(item_type=inspect.StructType(cls=cls)) if cls is ChatMessage:
            values = st.lists(arbitrary(ChatMessage), max_size=4, unique_by=lambda each: each.id).map(tuple)
        case inspect.VarTupleType(item_type=item):
            values = st.lists(_values(item), max_size=3).map(tuple)
        case inspect.DictType(value_type=value):
            values = st.dictionaries(texts, _values(value), max_size=3)
        case inspect.StructType(cls=cls):
            values = arbitrary(cls)
        case _:
            values = _SCALARS[type(kind)]
    return values


_SCALARS: dict[type[inspect.Type], st.SearchStrategy[Any]] = {
    inspect.AnyType: json_values,
    inspect.BoolType: st.booleans(),
    inspect.DateTimeType: times,
    inspect.FloatType: st.floats(0, allow_infinity=False, allow_nan=False),
    inspect.IntType: counts,
    inspect.NoneType: st.none(),
    inspect.StrType: texts,
}
any_command = st.sampled_from(list(COMMANDS.values())).flatmap(arbitrary_command)
any_event = st.sampled_from(list(events.EVENTS.values())).flatmap(
    lambda kind: arbitrary(kind, meta=arbitrary(events.EventMeta, "position"))
)

# ── any commands on one session: few ids, so that they meet ──────────────────────────────────────────────────────────

_ids_of_few = st.sampled_from(["m1", "m2", "m3", "m4"])
_few = st.builds(message, _ids_of_few, texts)
_several = st.lists(_few, max_size=3, unique_by=lambda each: each.id).map(tuple)
_models = st.sampled_from(["small", "large"])
_configs = st.builds(SessionConfig, st.just("openai"), _models, system_prompt=st.sampled_from([None, "Be brief"]))
_config_patches = st.builds(SessionConfigPatch, model=_models, temperature=st.sampled_from([None, 0.5, msgspec.UNSET]))
_patches = st.builds(
    SessionPatch,
    config=st.just(msgspec.UNSET) | _config_patches,
    messages=st.just(msgspec.UNSET) | _several,
    is_active=st.just(msgspec.UNSET) | st.booleans(),
    metadata=st.just(msgspec.UNSET) | st.none() | st.dictionaries(texts, texts, max_size=2),
)
_on_s = {"session_id": st.just("s"), "expected_version": st.none() | st.none() | st.integers(0, 4)}
commands_on_one_session: st.SearchStrategy[ChangingCommand] = st.one_of(
    st.builds(commands.CreateSession, config=_configs, **_on_s),
    st.builds(commands.DeleteSession, **_on_s),
    st.builds(commands.UpdateSession, updates=_patches, **_on_s),
    st.builds(commands.AddMessage, message=_few, **_on_s),
    st.builds(commands.AddMessages, messages=_several, **_on_s),
    st.builds(
        commands.UpdateMessage,
        message_id=_ids_of_few,
        updates=st.builds(ChatMessagePatch, metadata=st.none() | st.dictionaries(texts, texts, max_size=2)),
        **_on_s,
    ),
    st.builds(commands.RemoveMessages, message_ids=st.lists(_ids_of_few, max_size=2), **_on_s),
    st.builds(commands.RemoveMessages, last=st.integers(1, 3), **_on_s),
    st.builds(commands.UpdateTokenMetrics, prompt_tokens=st.integers(0, 900), **_on_s),
)
