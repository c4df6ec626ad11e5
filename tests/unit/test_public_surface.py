"""The public surface: the names of each public module, and every type that their annotations show."""

import ast
import importlib
import inspect
import itertools
import textwrap
import typing
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import cast, get_args, get_origin

import pytest

import turnstream
from turnstream import admin, catalogue, errors, testing
from turnstream.errors import TurnstreamError

NAMES = {
    "turnstream": """
        AddMessage AddMessages Applied ChatMessage ChatMessageRole CommandTimeout Consumer CreateSession
        DeleteSession EventSubscription ImageContent InvalidCommand MessageContent MessageContentType
        NotHandled PendingConnection Position Rejected RemoveMessages ResyncRequired RetryPolicy Secret Session
        SessionAlreadyExists SessionConfig SessionInfo SessionNotFound SessionPage Sessions Settings
        TextContent Ticket TokenMetrics ToolCallContent ToolResultContent Trace Turnstream TurnstreamError
        Unavailable UpdateMessage UpdateSession UpdateTokenMetrics VersionConflict Worker assistant_message
        summary_message system_message tool_message user_message
    """,
    "turnstream.admin": """
        Admin ConsumerAdmin Difference MalformedAdmin MalformedInfo ParkedAdmin ParkedInfo ParkedSession
        PartitionLag QueueProgress SubscriptionInfo Verification WaitingCommand WorkerAdmin WorkerInfo
    """,
    "turnstream.catalogue": """
        DEFAULT_CONTEXT_WINDOW ModelCatalogue Price PriceSource TokenUsage calculate_cost
        context_window_size default_catalogue load_catalogue
    """,
    "turnstream.commands": """
        AddMessage AddMessages ChatMessagePatch Command CommandResult CreateSession DeleteSession GetSession
        ListSessions RemoveMessages RemovedMessage SessionConfigPatch SessionPatch TokenMetricsPatch UNSET
        UpdateMessage UpdateSession UpdateTokenMetrics
    """,
    "turnstream.errors": """
        CommandDiscarded CommandExpired CommandParked CommandTimeout ConfigurationError DuplicateMismatch
        InvalidCommand KeyUnusable MessageAlreadyExists MessageNotFound NotHandled OpenedElsewhere Overloaded
        ParkedQueueFull Rejected ServerFull SessionAlreadyExists SessionGone SessionNotFound SessionNotParked
        StoredDataInvalid SubscriptionInUse SubscriptionNotFound TurnstreamError Unavailable VersionConflict
    """,
    "turnstream.events": """
        ContextWindowCritical Event EventMeta LogPosition MessageAdded MessageRemoved MessageUpdated Position
        ResyncRequired SessionConfigUpdated SessionCreated SessionDeleted SessionUpdated TokenMetricsUpdated
        fold
    """,
    "turnstream.testing": """
        client events
    """,
}
"""What users may import. Whoever adds or removes a name decides that here."""

MADE_BY_THE_LIBRARY = {
    *(turnstream.Turnstream, turnstream.Worker, turnstream.Sessions, turnstream.Ticket),
    *(turnstream.EventSubscription, turnstream.Consumer),
    catalogue.ModelCatalogue,  # users call `from_file`
    *(admin.Admin, admin.ParkedAdmin, admin.MalformedAdmin, admin.ConsumerAdmin, admin.WorkerAdmin),
}
"""Classes that users get from a call, so that their constructors may take internal objects."""


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def exported() -> dict[str, object]:
    return {f"{path}.{name}": getattr(module(path), name) for path in NAMES for name in module(path).__all__}


def classes() -> set[type]:
    return {value for value in exported().values() if isinstance(value, type)}


def members_of(kind: type) -> Iterator[tuple[str, object]]:
    """The public members of a class that this library defines; with the constructor, if users call it."""
    for base in kind.__mro__:
        if base.__module__.startswith("turnstream"):
            for name, member in vars(base).items():
                is_constructor = name == "__init__" and kind not in MADE_BY_THE_LIBRARY
                if is_constructor or not name.startswith("_") or name in {"__aenter__", "__anext__", "__await__"}:
                    yield f"{kind.__name__}.{name}", member


def function_of(member: object) -> Callable[..., object] | None:
    """The function of a member; of a property that of its value; `None` for what is not called."""
    inner = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
    function: object = inspect.unwrap(inner) if callable(inner) else None
    return function if inspect.isfunction(function) else None


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    for path, value in exported().items():
        if function := function_of(value):
            yield path, function
    for kind in classes():
        for name, member in members_of(kind):
            if function := function_of(member):
                yield name, function


def annotations() -> Iterator[tuple[str, object]]:
    for name, function in functions():
        for each in (function, *typing.get_overloads(function)):
            for parameter, hint in typing.get_type_hints(each).items():
                yield f"{name}({parameter})", hint
    for kind in classes():
        for field, hint in typing.get_type_hints(kind).items():
            if not field.startswith("_"):
                yield f"{kind.__name__}.{field}", hint


def own_classes(hint: object) -> Iterator[type]:
    """The classes of this library in an annotation."""
    origin = get_origin(hint)
    for part in (origin, *get_args(hint)) if origin else ():
        yield from own_classes(part)
    if isinstance(hint, list):  # the parameters of a callable
        for part in cast("list[object]", hint):
            yield from own_classes(part)
    if isinstance(hint, type) and origin is None and hint.__module__.startswith("turnstream"):
        yield hint


@pytest.mark.parametrize("path", NAMES)
def test_a_public_module_has_exactly_these_names(path: str) -> None:
    names = module(path).__all__
    assert sorted(names) == sorted(NAMES[path].split())
    assert module(path).__doc__


@pytest.mark.parametrize("path", NAMES)
def test_the_example_of_a_module_is_indented_code(path: str) -> None:
    _, _, example = (module(path).__doc__ or "").partition("Example:\n")
    lines = itertools.takewhile(lambda line: line.startswith("    ") or not line, example.splitlines())
    compile(textwrap.dedent("\n".join(lines)), path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert example or path in {"turnstream.catalogue", "turnstream.errors"}


def test_the_top_has_the_names_of_daily_use_only() -> None:
    assert len(turnstream.__all__) <= 49


def test_a_name_means_the_same_in_every_module() -> None:
    by_name: dict[str, set[int]] = {}
    for path, value in exported().items():
        by_name.setdefault(path.rpartition(".")[2], set()).add(id(value))
    assert [name for name, meanings in by_name.items() if len(meanings) > 1] == []


def test_annotations_show_exported_types_only() -> None:
    public = classes()
    hidden = {(name, kind.__name__) for name, hint in annotations() for kind in own_classes(hint) if kind not in public}
    assert hidden == set()


async def test_attributes_are_of_exported_types() -> None:
    """Those that constructors set have no annotation."""
    async with testing.client() as ts:
        ticket = await ts.send(turnstream.CreateSession(turnstream.SessionConfig("openai", "gpt-4")))
        objects = (ts, ts.admin, ts.sessions, ticket, await ticket, ts.consumer("billing"), ts.subscribe())
        attributes: dict[str, type] = {
            f"{type(each).__name__}.{name}": type(value)
            for each in objects
            for name, value in inspect.getmembers(each)
            if not name.startswith("_")
        }
        own = {name: kind for name, kind in attributes.items() if kind.__module__.startswith("turnstream")}
        assert {"Turnstream.admin", "Turnstream.sessions", "Admin.workers"} <= set(own)
        assert {name: kind for name, kind in own.items() if kind not in classes()} == {}


def test_everything_public_has_a_docstring() -> None:
    docstrings: dict[str, str | None] = {kind.__name__: kind.__doc__ for kind in classes()}
    docstrings |= {name: function.__doc__ for name, function in functions() if not name.endswith(".__init__")}
    assert len(docstrings) > 150
    assert {name for name, text in docstrings.items() if not text} == set()


def test_every_error_of_the_tree_is_exported() -> None:
    found, ahead = set[type](), [TurnstreamError]
    while ahead:
        kind = ahead.pop()
        found.add(kind)
        ahead += kind.__subclasses__()
    # Signals, and subclasses that are not to be told from their base, are defined elsewhere.
    of_tree = {kind for kind in found if kind.__module__.startswith("turnstream.errors")}
    assert {kind.__name__ for kind in of_tree} == set(errors.__all__)


def test_an_error_names_the_public_module() -> None:
    """In tracebacks and pickles, whichever file defines it."""
    assert {kind.__module__ for kind in classes() if issubclass(kind, TurnstreamError)} == {"turnstream.errors"}
