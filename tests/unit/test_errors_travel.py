"""Errors go through pickle, copy and a process pool, as job queues and test runners need: whole, and of their class."""

import copy
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from types import NoneType, UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import pytest

from turnstream.codec.records import error_of, rejection_of
from turnstream.errors import CommandTimeout, NotHandled, SessionNotFound, TurnstreamError, Unavailable

PACKAGES = (
    *("turnstream", "turnstream_alerts", "turnstream_cli", "turnstream_relay", "turnstream_service"),
    "turnstream_worker",
)

SAMPLES: dict[type, object] = {
    str: "some text",
    int: 3,
    float: 1.5,
    bool: False,
    list: ["a", "b"],
    dict: {"a": 1.5},
    Exception: SessionNotFound("cause"),
    NoneType: None,
}

WAYS: dict[str, Callable[[Exception], Exception]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301 - our own
    "old pickle": lambda error: pickle.loads(pickle.dumps(error, protocol=2)),  # noqa: S301 - our own
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def every_class() -> list[type[Exception]]:
    """Return every class of error that any module of the packages defines."""
    modules = [import_module(name) for package in PACKAGES for name in names_of(package)]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module.__name__
    }
    return sorted(found | set(subclasses_of(TurnstreamError)), key=lambda kind: (kind.__module__, kind.__qualname__))


def names_of(package: str) -> Iterator[str]:
    yield package
    for found in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
        if not found.name.endswith(".__main__"):
            yield found.name


def subclasses_of(kind: type[Exception]) -> Iterator[type[Exception]]:
    for child in kind.__subclasses__():
        if child.__module__.partition(".")[0] in PACKAGES:
            yield child
            yield from subclasses_of(child)


def made(kind: type[Exception], *, optional: bool) -> Exception:
    """Make an error from samples for the parameters of its constructor, also for those it can do without."""
    if kind.__init__ in {Exception.__init__, RuntimeError.__init__}:
        return kind("some text")
    hints = get_type_hints(kind.__init__)
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    wanted = [p for p in parameters if p.name in hints and (optional or p.default is p.empty)]
    values = {p.name: sample(hints[p.name]) for p in wanted}
    return kind(**values) if values else kind("some text")


def sample(hint: Any) -> object:  # noqa: ANN401 - any annotation
    if isinstance(hint, UnionType):
        return sample(next(arg for arg in get_args(hint) if arg is not NoneType))
    return SAMPLES[get_origin(hint) or hint]


@pytest.mark.parametrize("optional", [False, True], ids=["required", "all"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__qualname__)
def test_every_error_arrives_whole(kind: type[Exception], way: str, *, optional: bool) -> None:
    error = made(kind, optional=optional)
    arrived = WAYS[way](error)
    assert arrived is not error
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert repr(arrived) == repr(error)
    assert {n: str(v) for n, v in vars(arrived).items()} == {n: str(v) for n, v in vars(error).items()}
    # And once more from there, as between several processes.
    assert str(WAYS[way](arrived)) == str(error)


@pytest.mark.parametrize("way", WAYS)
def test_notes_and_the_cause_arrive(way: str) -> None:
    error = Unavailable("The command was applied", "c1")
    error.__cause__ = SessionNotFound("s")
    error.add_note("asked twice")
    arrived = cast("Unavailable", WAYS[way](error))
    assert arrived.__notes__ == ["asked twice"]
    assert str(arrived.__cause__) == str(error.__cause__)
    assert arrived.command_id == "c1"


@pytest.mark.parametrize("way", ["pickle", "old pickle"])
def test_a_cause_that_cannot_be_pickled_is_dropped(way: str) -> None:
    error = NotHandled("the service is away", counts=False)
    error.__cause__ = UnpicklableError()
    arrived = cast("NotHandled", WAYS[way](error))
    assert (arrived.reason, arrived.counts, arrived.__cause__) == ("the service is away", False, None)


def test_a_note_is_no_field_of_a_rejection() -> None:
    error = SessionNotFound("s")
    error.add_note("seen by a handler")
    assert error_of(rejection_of(error)).fields == {"session_id": "s"}


def test_an_error_that_a_reply_carried_arrives() -> None:
    error = error_of(rejection_of(SessionNotFound("s")))
    assert str(pickle.loads(pickle.dumps(error))) == str(SessionNotFound("s"))  # noqa: S301 - our own


def test_an_error_of_a_process_pool_leaves_the_pool_usable() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(CommandTimeout) as raised:
            pool.submit(time_out).result()
        assert (raised.value.command_id, raised.value.timeout) == ("c1", 2.5)
        assert pool.submit(int, "5").result() == 5


class UnpicklableError(Exception):
    def __reduce__(self) -> str:
        raise TypeError("cannot be pickled")


def time_out() -> None:
    raise CommandTimeout("c1", 2.5)
