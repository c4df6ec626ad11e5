"""Reads the modules of the async client: their classes, and the meaning of the names in them."""

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "shared"

Function = ast.FunctionDef | ast.AsyncFunctionDef


class UnknownShape(Exception):  # noqa: N818 - its subject, as in KeyUnusable
    """The async client has something for which there is no rule."""


class Import(NamedTuple):
    """A name of a module, as `from module import name` imports it."""

    module: str
    name: str


@dataclass(frozen=True)
class Source:
    """A parsed module of the async client."""

    module: str
    path: Path
    tree: ast.Module

    def refuse(self, node: ast.AST, problem: str) -> NoReturn:
        """Raise `UnknownShape` with the file and the line of a node."""
        line = getattr(node, "lineno", 1)
        raise UnknownShape(f"{self.path.relative_to(ROOT)}:{line}: {problem}")

    def definition(self, name: str) -> Import | None:
        """Return the module that defines a name of this module; `None` for a builtin or an unknown name."""
        for statement in self.tree.body:
            match statement:
                case ast.ImportFrom(module=str(module), names=names):
                    found = [Import(module, alias.name) for alias in names if (alias.asname or alias.name) == name]
                    if found:
                        return found[0]
                case ast.ClassDef(name=own) | ast.FunctionDef(name=own) if own == name:
                    return Import(self.module, name)
                case ast.Assign(targets=[ast.Name(id=own)]) | ast.AnnAssign(target=ast.Name(id=own)) if own == name:
                    return Import(self.module, name)
                case _:
                    pass
        return None

    def needed_import(self, name: ast.Name) -> Import | None:
        """Return the import that makes a name known in another module; `None` for a builtin.

        Raises:
            UnknownShape: the module neither defines nor imports the name by `from … import`.

        """
        found = self.definition(name.id)
        if found is None and not hasattr(builtins, name.id):
            self.refuse(name, f"{name.id} is neither defined here nor imported by `from … import`")
        return found

    def class_named(self, name: str) -> ast.ClassDef:
        """Return a class of this module."""
        for statement in self.tree.body:
            if isinstance(statement, ast.ClassDef) and statement.name == name:
                return statement
        return self.refuse(self.tree, f"there is no class {name}; the plan names one")


@cache
def source_of(module: str) -> Source:
    """Parse a module of the library."""
    path = LIBRARY.joinpath(*module.split(".")).with_suffix(".py")
    return Source(module, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))


class Member(NamedTuple):
    """A method of a class, or of a base class, with its module."""

    source: Source
    function: Function


def members(source: Source, definition: ast.ClassDef) -> Iterator[Member]:
    """Yield the methods of a class in their order, those of its base classes last; and all constructors.

    Raises:
        UnknownShape: a statement of the class body is not a method, or a base class is not one of this library.

    """
    seen: set[str] = set()
    for statement in definition.body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                seen.add(statement.name if statement.name != "__init__" else "")
                yield Member(source, statement)
            case ast.Expr(value=ast.Constant(value=str())):
                pass
            case _:
                source.refuse(statement, "expected only methods in the class; assign attributes in __init__")
    for base_source, base in _bases(source, definition):
        yield from (member for member in members(base_source, base) if member.function.name not in seen)


def _bases(source: Source, definition: ast.ClassDef) -> Iterator[tuple[Source, ast.ClassDef]]:
    for base in definition.bases:
        match base:
            case ast.Subscript(value=ast.Name(id="Generic")):
                pass
            case ast.Name(id=name) if (found := source.definition(name)) and found.module.startswith("turnstream."):
                base_source = source_of(found.module)
                yield base_source, base_source.class_named(found.name)
            case _:
                source.refuse(base, f"there is no rule for the base class {ast.unparse(base)}")
