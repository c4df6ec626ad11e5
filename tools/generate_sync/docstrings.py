"""Edits docstrings of the async client, so that they are true of the sync one."""

import ast
import re
from collections.abc import Iterable
from textwrap import indent

from tools.generate_sync.plan import EDITS, Edit
from tools.generate_sync.sources import Source

ASYNC_WORDS = re.compile(r"\b(?:async|asyncio|await\w*|aclose|event loop)\b|`anext`|__a\w+__")
"""Words that a docstring of the sync client cannot contain."""

INDENT = "    "


class Docstrings:
    """The docstrings of one class: common edits for all, and its own, each of which must be used."""

    def __init__(self, source: Source, definition: ast.ClassDef, edits: Iterable[Edit]) -> None:
        """Edit the docstrings of a class."""
        self._source = source
        self._definition = definition
        self._own = tuple(edits)
        self._unused = set(self._own)

    def edited(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, source: Source) -> ast.Expr:
        """Return the docstring statement for the sync counterpart of a class or method.

        Raises:
            UnknownShape: the node has no docstring, or it still mentions asyncio after all edits.

        """
        text = ast.get_docstring(node)
        if text is None:
            source.refuse(node, f"{node.name} has no docstring")
        for edit in self._own:
            text, count = _pattern(edit.old).subn(edit.new, text)
            if count:
                self._unused.discard(edit)
        for edit in EDITS:
            text = _pattern(edit.old).sub(edit.new, text)
        if left := ASYNC_WORDS.search(text):
            source.refuse(node, f"the docstring of {node.name} says {left[0]!r} after all edits: add one to the plan")
        depth = 1 if isinstance(node, ast.ClassDef) else 2
        return ast.Expr(ast.Constant(_indented(text, depth)))

    def check_all_used(self) -> None:
        """Raise `UnknownShape` if an edit of the plan has matched nothing: the async docstring has changed."""
        for edit in sorted(self._unused):
            self._source.refuse(
                self._definition, f"no docstring of {self._definition.name} says {edit.old!r}: remove the edit"
            )


def _pattern(old: str) -> re.Pattern[str]:
    """Match a text wherever its lines are broken."""
    return re.compile(r"\s+".join(map(re.escape, old.split())))


def _indented(text: str, depth: int) -> str:
    first, _, others = text.partition("\n")
    return f"{first}\n{indent(others, INDENT * depth)}\n{INDENT * depth}" if others else first
