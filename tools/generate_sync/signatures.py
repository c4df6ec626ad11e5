"""Signatures of async methods as those of sync ones, and the imports that they need."""

import ast
from collections.abc import Iterator
from copy import deepcopy
from typing import Final

from tools.generate_sync.plan import MODULES, PACKAGE
from tools.generate_sync.sources import Function, Import, Source

SYNC_CLASSES: Final = {
    Import(each.source, each.name): Import(f"{PACKAGE}.{module.name}", each.name)
    for module in MODULES
    for each in module.classes
}
"""The sync class of each async class."""

UNTRANSLATED: Final = frozenset(
    {"AsyncIterator", "AsyncIterable", "AsyncGenerator", "Awaitable", "Coroutine", "AbstractAsyncContextManager"}
)


class Translation(ast.NodeTransformer):
    """Rewrites the annotations and defaults of one module, and collects the imports that they need."""

    def __init__(self, source: Source, imports: set[Import]) -> None:
        """Read names as `source` defines them; add to `imports`."""
        self._source = source
        self._imports = imports

    def of(self, node: ast.expr) -> ast.expr:
        """Return an annotation or a default for the sync client."""
        translated: ast.expr = self.visit(deepcopy(node))
        return translated

    def arguments(self, arguments: ast.arguments) -> ast.arguments:
        """Return the parameters for the sync client."""
        translated: ast.arguments = self.visit(deepcopy(arguments))
        return translated

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """Replace `AsyncIterator[X]` by `Iterator[X]`, and the awaitable result of a callback by its value."""
        match node:
            case ast.Subscript(value=ast.Name(id="AsyncIterator")):
                self._imports.add(Import("collections.abc", "Iterator"))
                return ast.Subscript(ast.Name("Iterator"), self.visit(node.slice))
            case ast.Subscript(
                value=ast.Name(id="Callable"),
                slice=ast.Tuple(elts=[taken, ast.Subscript(value=ast.Name(id="Awaitable"), slice=given)]),
            ):
                return ast.Subscript(self.visit(node.value), ast.Tuple([self.visit(taken), self.visit(given)]))
            case _:
                self.generic_visit(node)
                return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Import a name; classes of the plan are imported from the sync client."""
        if node.id in UNTRANSLATED:
            self._source.refuse(node, f"there is no rule for {node.id} here")
        if needed := self._source.needed_import(node):
            self._imports.add(SYNC_CLASSES.get(needed, needed))
        return node


def forwarded(function: Function, receiver: str) -> str:
    """Return the call that passes all parameters of a method on."""
    return f"{receiver}.{function.name}({', '.join(passed(function.args))})"


def passed(arguments: ast.arguments) -> Iterator[str]:
    """Yield the arguments that pass all parameters of a method on, without the first one."""
    for argument in [*arguments.posonlyargs, *arguments.args][1:]:
        yield _value(argument)
    if arguments.vararg:
        yield f"*{arguments.vararg.arg}"
    for argument in arguments.kwonlyargs:
        yield f"{argument.arg}={_value(argument)}"
    if arguments.kwarg:
        yield f"**{arguments.kwarg.arg}"


def _value(argument: ast.arg) -> str:
    match argument.annotation:
        case ast.Subscript(value=ast.Name(id="Iterable")):
            # The caller's iterable runs in the caller's thread: it may itself call this client.
            return f"tuple({argument.arg})"
        case _:
            return argument.arg


def handlers(function: Function) -> list[str]:
    """Return the parameters that are callbacks with an awaitable result."""
    arguments = [node for node in ast.walk(function.args) if isinstance(node, ast.arg) and node.annotation]
    return [argument.arg for argument in arguments if any(map(_is_handler, ast.walk(argument)))]


def _is_handler(node: ast.AST) -> bool:
    match node:
        case ast.Subscript(
            value=ast.Name(id="Callable"), slice=ast.Tuple(elts=[_, ast.Subscript(value=ast.Name(id="Awaitable"))])
        ):
            return True
        case _:
            return False
