"""The sync client: checked in as generated, with the signatures of the async client; unknown shapes are refused."""

import ast
import inspect
import re
import sys
import typing
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from types import FunctionType

import pytest
from tools.generate_sync import __main__ as command
from tools.generate_sync.docstrings import ASYNC_WORDS
from tools.generate_sync.modules import class_context, generated, sync_class
from tools.generate_sync.plan import EDITS, MODULES, Edit, SyncClass
from tools.generate_sync.sources import ROOT, Source, UnknownShape, members, source_of

import turnstream
from turnstream import sync

PLANNED = [each for module in MODULES for each in module.classes]
ASYNC_ONLY = {"PendingConnection", "Worker"}
"""A sync client is open when `connect` returns; a worker is a program's main coroutine."""

EXAMPLE = "turnstream.client.example"
IMPORTS = """\
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Generic
from turnstream.client.admin.parked_sessions import ParkedAdmin
from turnstream.client.admin.other import OtherAdmin
from turnstream.pending import PendingConnection
from turnstream.client.replies.ticket import Ticket
from turnstream.domain.models import Session
"""


def generate(body: str, edits: tuple[Edit, ...] = (), left_out: tuple[str, ...] = ()) -> str:
    """Generate the sync class of an async one with this body."""
    text = f'{IMPORTS}class Example:\n    """An example."""\n{indent(dedent(body), "    ")}'
    source = Source(EXAMPLE, ROOT / "example.py", ast.parse(text))
    planned = SyncClass(EXAMPLE, "Example", edits, left_out)
    return ast.unparse(sync_class(source, planned, class_context(source, planned)))


# ── the client as it is checked in ──


def test_each_file_is_as_generated() -> None:
    """Formatting is for `make lint`, which compares the text."""
    for path, text in generated().items():
        assert syntax_of(path.read_text(encoding="utf-8")) == syntax_of(text), f"{path.name}: run `make sync`"


def syntax_of(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = inspect.cleandoc(node.value)
    return ast.dump(tree)


def test_a_changed_file_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "client.py"
    changed.write_text("pass\n", encoding="utf-8")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "generated", lambda: {changed: "x = 1\n"})
    monkeypatch.setattr(command, "formatted", unformatted)
    monkeypatch.setattr(sys, "argv", ["generate_sync", "--check"])
    with pytest.raises(SystemExit, match=r"client\.py\. Run `make sync`"):
        command.main()
    assert changed.read_text(encoding="utf-8") == "pass\n"
    monkeypatch.setattr(sys, "argv", ["generate_sync"])
    command.main()
    monkeypatch.setattr(sys, "argv", ["generate_sync", "--check"])
    command.main()


def unformatted(text: str, _: Path) -> str:
    return text


def test_the_package_exports_every_planned_class() -> None:
    assert sorted(each.name for each in PLANNED) == sync.__all__


def test_every_exported_class_with_coroutines_has_a_sync_class() -> None:
    exported = {name: getattr(turnstream, name) for name in turnstream.__all__}
    awaited = {
        name
        for name, value in exported.items()
        if isinstance(value, type)
        for call in vars(value).values()
        if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
    }
    assert awaited == {*sync.__all__} & {*turnstream.__all__} | ASYNC_ONLY


# ── signatures ──


def calls_of(kind: type) -> dict[str, FunctionType]:
    """The methods of a class for callers, those of its bases included."""
    found = inspect.getmembers(kind, inspect.isroutine)
    functions = {name: getattr(call, "__func__", call) for name, call in found if not name.startswith("_")}
    return {name: call for name, call in functions.items() if isinstance(call, FunctionType)}


def async_class(planned: SyncClass) -> type:
    found: type = getattr(import_module(planned.source), planned.name)
    return found


@pytest.mark.parametrize("planned", PLANNED, ids=lambda planned: planned.name)
def test_a_sync_class_has_the_calls_of_the_async_one_with_their_parameters(planned: SyncClass) -> None:
    theirs = {
        {"aclose": "close"}.get(name, name): shape(call)
        for name, call in calls_of(async_class(planned)).items()
        if name not in planned.left_out
    }
    assert {name: shape(call) for name, call in calls_of(getattr(sync, planned.name)).items()} == theirs


def shape(call: FunctionType) -> tuple[Sequence[tuple[str, object, object, object]], object]:
    """The parameters and the result of a call, with sync types instead of async ones."""
    signature = inspect.signature(call)
    parameters = [(p.name, p.kind, p.default, plain(p.annotation)) for p in signature.parameters.values()]
    return parameters, plain(signature.return_annotation)


def plain(annotation: object) -> object:
    """Replace the async types of an annotation by sync ones, and classes of the plan by their names."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is typing.Self or str(annotation).startswith("PendingConnection["):
        return "an open client"
    if origin is Awaitable:
        return plain(arguments[0])
    if arguments:
        name = Iterator if origin in {AsyncIterator, Iterator} else plain(origin)
        return name, tuple(plain(argument) for argument in arguments)
    if isinstance(annotation, list):
        return tuple(plain(each) for each in typing.cast("list[object]", annotation))
    return annotation.__name__ if isinstance(annotation, type) and annotation.__name__ in sync.__all__ else annotation


@pytest.mark.parametrize("planned", PLANNED, ids=lambda planned: planned.name)
def test_no_docstring_of_a_sync_class_mentions_asyncio(planned: SyncClass) -> None:
    kind = getattr(sync, planned.name)
    texts = [kind.__doc__, *(call.__doc__ for call in calls_of(kind).values())]
    assert all(texts)
    assert not [text for text in texts if text and ASYNC_WORDS.search(text)]


# ── shapes ──


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        pytest.param(
            """
            async def count(self, a: int, /, b: str = "x", *, c: bool = False) -> int:
                \"\"\"Count.\"\"\"
                return await self._count()
            """,
            'def count(self, a: int, /, b: str="x", *, c: bool=False) -> int: ... return '
            "self._call(self._target.count(a, b, c=c))",
            id="coroutine",
        ),
        pytest.param(
            """
            async def list(self) -> AsyncIterator[Session]:
                \"\"\"List.\"\"\"
                yield self._session
            """,
            "def list(self) -> Iterator[Session]: ... yield from self._iterate(self._target.list())",
            id="async generator",
        ),
        pytest.param(
            """
            def list(self) -> AsyncIterator[Session]:
                \"\"\"List.\"\"\"
                return walk()
            """,
            "def list(self) -> Iterator[Session]: ... yield from self._iterate(self._target.list())",
            id="async iterator",
        ),
        pytest.param(
            """
            async def send(self, commands: Iterable[int]) -> list[Ticket]:
                \"\"\"Send.\"\"\"
            """,
            "def send(self, commands: Iterable[int]) -> list[Ticket]: ... return [Ticket(self._portal, each) for each "
            "in self._call(self._target.send(tuple(commands)))]",
            id="planned results of a caller's iterable",
        ),
        pytest.param(
            """
            def make(self, *types: type[Any]) -> Ticket:
                \"\"\"Make.\"\"\"
            """,
            "def make(self, *types: type[Any]) -> Ticket: ... self._check() return "
            "Ticket(self._portal, self._target.make(*types))",
            id="object of the client",
        ),
        pytest.param(
            """
            def stop(self, now: bool) -> None:
                \"\"\"Stop.\"\"\"
            """,
            "def stop(self, now: bool) -> None: ... self._run(self._target.stop, now)",
            id="function for the event loop",
        ),
        pytest.param(
            """
            async def run(self, handler: Callable[[Session], Awaitable[None]]) -> None:
                \"\"\"Run.\"\"\"
            """,
            "def run(self, handler: Callable[[Session], None]) -> None: ... self._handle(self._target.run, handler)",
            id="handler",
        ),
        pytest.param(
            """
            @property
            def parked(self) -> ParkedAdmin:
                \"\"\"The parked sessions.\"\"\"
                return self._parked
            """,
            "@property def parked(self) -> ParkedAdmin: ... return ParkedAdmin(self._portal, self._target.parked)",
            id="property with a facade",
        ),
        pytest.param(
            """
            def __init__(self, client: Any) -> None:
                \"\"\"Begin.\"\"\"
                self.parked = ParkedAdmin(client)
                self.name = client.name
                self._client = client
            """,
            "def __init__(self, portal: Portal, target: AsyncExample) -> None: ... super().__init__(portal, target) "
            "self.parked = ParkedAdmin(portal, target.parked) self.name = target.name",
            id="attributes",
        ),
        pytest.param(
            """
            async def __aenter__(self) -> int:
                \"\"\"Enter.\"\"\"
            """,
            "def __enter__(self) -> int: ... self._call(self._target.__aenter__()) return self",
            id="async context manager, start",
        ),
        pytest.param(
            """
            async def __aexit__(self, *_: object) -> None:
                \"\"\"Leave.\"\"\"
            """,
            "def __exit__(self, *_: object) -> None: ... self._end(self._target.__aexit__(*_))",
            id="async context manager, end",
        ),
        pytest.param(
            """
            async def aclose(self) -> None:
                \"\"\"Close.\"\"\"
            """,
            "def close(self) -> None: ... self._end(self._target.aclose())",
            id="aclose",
        ),
        pytest.param(
            """
            @classmethod
            def connect(cls, url: str) -> "PendingConnection[Example]":
                \"\"\"Connect.\"\"\"
            """,
            "@classmethod def connect(cls, url: str) -> Self: ... return cls._open(AsyncExample.connect(url))",
            id="opening",
        ),
    ],
)
def test_a_method_becomes(method: str, expected: str) -> None:
    header, body = expected.split(" ... ")
    text = " ".join(generate(method).replace("'", '"').split())
    assert f"{header} " in text
    assert text.endswith(f" {body}")


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("limit = 3", "expected only methods"),
        ('async def count(self):\n    """Count."""', "no return annotation"),
        ("async def count(self) -> int:\n    return 1", "no docstring"),
        ('async def one(self) -> Ticket | None:\n    """One."""', "no rule for Ticket inside of Ticket | None"),
        (
            'async def walk(self) -> AsyncIterator[int]:\n    """Walk."""\n    return x',
            "coroutine that returns an iter",
        ),
        ('def later(self) -> Awaitable[int]:\n    """Wait."""', "no rule for Awaitable here"),
        ('def name(self) -> Unknown:\n    """Name."""', "Unknown is neither defined here nor imported"),
        ('@staticmethod\ndef make() -> int:\n    """Make."""', "no rule for the decorators staticmethod"),
        (
            '@classmethod\ndef make(cls) -> int:\n    """Make."""',
            "class method that does not return a PendingConnection",
        ),
        ('async def __acall__(self) -> int:\n    """Call."""', "no rule for __acall__"),
        ('def __len__(self) -> int:\n    """Len."""', "no rule for __len__"),
        ('def __await__(self) -> int:\n    """Wait."""\n    return self._x().__await__()', "await a public method"),
        ('async def wait(self) -> int:\n    """Give it to `await`."""', "says 'await' after all edits"),
        (
            'def __init__(self) -> None:\n    """Begin."""\n    self.other = OtherAdmin()',
            "OtherAdmin is not in the plan",
        ),
        (
            'def __init__(self) -> None:\n    """Begin."""\n    self.limit: int = 3',
            "no rule for this assignment of limit",
        ),
        (
            'async def run(self, name: str, handler: Callable[[int], Awaitable[None]]) -> None:\n    """Run."""',
            "no rule for a handler among other parameters",
        ),
        (
            'def on(self, handler: Callable[[int], Awaitable[None]]) -> None:\n    """On."""',
            "no rule for a handler of a method that is not a coroutine",
        ),
        ('async def open(self) -> None:\n    """Open."""\n    self.state = 1', "no rule for this assignment of state"),
    ],
)
def test_an_unknown_shape_is_refused_with_its_line(method: str, problem: str) -> None:
    with pytest.raises(UnknownShape, match=re.escape(problem)) as refused:
        generate(method)
    assert re.match(r"example\.py:\d+: ", str(refused.value))


def test_the_line_is_that_of_the_method() -> None:
    with pytest.raises(UnknownShape) as refused:
        generate('def fine(self) -> int:\n    """Fine."""\n\ndef __len__(self) -> int:\n    """Len."""')
    assert str(refused.value).startswith(f"example.py:{IMPORTS.count(chr(10)) + 6}: ")


def test_a_left_out_method_exists() -> None:
    with pytest.raises(UnknownShape, match="Example has no gone, which the plan leaves out"):
        generate("", left_out=("gone",))


def test_every_common_edit_is_used() -> None:
    texts: list[str] = []
    for planned in PLANNED:
        source = source_of(planned.source)
        definition = source.class_named(planned.name)
        nodes = [definition, *(member.function for member in members(source, definition))]
        texts.extend(ast.get_docstring(node) or "" for node in nodes)
    assert [edit for edit in EDITS if edit.old not in " ".join(" ".join(texts).split())] == []


def test_an_edit_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UnknownShape, match="no docstring of Example says 'gone': remove the edit"):
        generate("", edits=(Edit("gone", "new"),))


def test_an_edit_matches_across_lines() -> None:
    text = generate('async def x(self) -> int:\n    """Of two\n    words."""', edits=(Edit("two words", "both"),))
    assert "Of both." in text


def test_the_command_names_the_file_and_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> dict[Path, str]:
        raise UnknownShape("client.py:7: there is no rule for __len__")

    monkeypatch.setattr(command, "generated", refuse)
    monkeypatch.setattr(sys, "argv", ["generate_sync"])
    with pytest.raises(SystemExit, match=r"client\.py:7: there is no rule for __len__"):
        command.main()
